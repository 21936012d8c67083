#pragma once
// Memory that several processes map: an anonymous file (memfd), so that no name can leak and the kernel frees it with
// its last process. Pages are allocated before they are touched: a full machine is an error here, not a SIGBUS later.
#include <cstddef>

namespace scrimp {

class Segment {
 public:
  // A new segment of `nbytes` zero bytes. Throws std::system_error when the memory is not there.
  static Segment create(std::size_t nbytes);
  // The segment behind an inherited descriptor, which it then owns.
  static Segment open(int fd);

  Segment(Segment&& other) noexcept;
  Segment& operator=(Segment&&) = delete;
  ~Segment();

  std::byte* data() const { return data_; }
  std::size_t nbytes() const { return nbytes_; }
  int fd() const { return fd_; }

 private:
  Segment(int fd, std::size_t nbytes);

  int fd_;
  std::byte* data_;
  std::size_t nbytes_;
};

// A part of a segment's file behind what Segment maps, mapped when needed and remapped when it must grow.
class Extent {
 public:
  Extent(int fd, std::size_t offset) : fd_(fd), offset_(offset) {}
  Extent(Extent&& other) noexcept;
  Extent& operator=(Extent&&) = delete;
  ~Extent();

  // Allocates the pages of the first `nbytes` bytes. For the owner, before others map them.
  void reserve(std::size_t nbytes);
  // The first `nbytes` bytes; earlier pointers die.
  std::byte* map(std::size_t nbytes);

 private:
  int fd_;
  std::size_t offset_, reserved_ = 0, mapped_ = 0;
  std::byte* data_ = nullptr;
};

// Memory of this process alone, in huge pages where there are some; grows by forgetting what it held.
class Workspace {
 public:
  Workspace() = default;
  Workspace(const Workspace&) = delete;
  ~Workspace();
  std::byte* reserve(std::size_t nbytes);

 private:
  std::byte* data_ = nullptr;
  std::size_t nbytes_ = 0;
};

// Whether this system offers what the local engine needs: Linux with memfd, futex and pidfd (>= 5.3).
bool engine_supported();

}  // namespace scrimp
