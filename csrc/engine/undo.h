#pragma once
// An array that changes before it is certain that it may: what was there is kept, and comes back unless keep() is called,
// also when an exception passes.
#include <cstddef>
#include <cstring>
#include <vector>

#include "engine/stream.h"

namespace scrimp {

template <class T>
class Undo {
 public:
  // room: as many values as x, in memory that nobody else uses meanwhile; nullptr: nothing is kept, nothing comes back.
  Undo(T* x, T* room, std::size_t n) : x_(x), room_(room), n_(n) {}
  Undo(const Undo&) = delete;
  ~Undo() {
    for (const Part& part : saved_) std::memcpy(x_ + part.begin, room_ + part.begin, (part.end - part.begin) * sizeof(T));
  }

  // Saves x[begin, begin + count), once, before it changes.
  void save(std::size_t begin, std::size_t count) {
    if (!count || !room_) return;
    copy_out(room_ + begin, x_ + begin, count * sizeof(T), n_ * sizeof(T));
    for (Part& part : saved_)
      if (part.end == begin) {
        part.end += count;
        return;
      }
    saved_.push_back({begin, begin + count});
  }

  void keep() { saved_.clear(); }

 private:
  struct Part {
    std::size_t begin, end;
  };
  T* x_;
  T* room_;
  std::size_t n_;
  std::vector<Part> saved_;
};

}  // namespace scrimp
