#pragma once
// Arrays of one rank that its peers can read: pages of the group's file, allocated and freed array by array. An array
// keeps the file alive, so it may outlive its group.
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>

#include "engine/segment.h"

namespace scrimp {

class Arena : public std::enable_shared_from_this<Arena> {
 public:
  // Owns the segment's file from byte `begin` on.
  Arena(std::shared_ptr<const Segment> segment, std::size_t begin) : segment_(std::move(segment)), begin_(begin) {}

  // `nbytes` zero bytes. Their pages go back with the last pointer. Throws std::system_error when the memory is not there.
  std::shared_ptr<std::byte> allocate(std::size_t nbytes);
  // Where data[nbytes] begins, counted from `begin`, if it lies in one array of this arena; else kElsewhere.
  std::uint64_t offset(const void* data, std::size_t nbytes);
  // Bytes of all arrays that live.
  std::size_t nbytes();

 private:
  struct Array {
    std::size_t nbytes;
    std::byte* data;
  };

  std::size_t find_room(std::size_t nbytes) const;
  void release(std::size_t at);

  std::shared_ptr<const Segment> segment_;
  std::size_t begin_;
  std::mutex mutex_;  // the garbage collector frees on any thread
  std::map<std::size_t, Array> arrays_;  // by offset
};

}  // namespace scrimp
