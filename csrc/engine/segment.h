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

// Whether this system offers what the local engine needs: Linux with memfd, futex and pidfd (>= 5.3).
bool engine_supported();

}  // namespace scrimp
