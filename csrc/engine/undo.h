#pragma once
// An array that changes before it is certain that it may: what was there is kept, and comes back unless keep() is called,
// also when an exception passes.
#include <algorithm>
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
    if (T* room = place(begin, count)) copy_out(room, x_ + begin, count * sizeof(T), n_ * sizeof(T));
  }

  // Where who changes x[begin, begin + count) must keep what was there; nullptr: nowhere.
  T* place(std::size_t begin, std::size_t count) {
    if (!count || !room_) return nullptr;
    const auto before = std::find_if(saved_.begin(), saved_.end(), [&](const Part& part) { return part.end == begin; });
    if (before != saved_.end()) before->end += count;
    else saved_.push_back({begin, begin + count});
    return room_ + begin;
  }
  // Whether to write there past the caches.
  bool streams() const { return n_ * sizeof(T) >= kStreamNbytes; }

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
