#pragma once
// All-reduce in shared memory: every rank writes its encoded slices where all can read, owners add them up out of the
// peers' memory and leave the encoded result there, everybody decodes it. Two barriers, nothing is copied in between, and
// the caller's arrays change only after the last wait. Byte for byte what python/scrimp/comm/collectives.py computes.
#include <cstddef>
#include <cstdint>
#include <string>

#include "engine/group.h"
#include "kernels/codec.h"

namespace scrimp {

// What is common to all calls.
struct ReduceCall {
  std::size_t n;
  bool mean;             // else sum
  bool write_nonfinite;  // write a result that holds NaN or infinities; else leave x as it is
  std::uint32_t tag;     // equal on all ranks for equal calls
  std::string label;
};

struct EncodedReduce {
  float* x;  // [n]
  const Codec* codec;
  std::uint64_t scatter_seed, gather_seed, step, first_index;
  Feedback feedback = Feedback::kNone;
  float* sent = nullptr;      // [n] ef14: what was lost; ef21: what the owners have of x
  float* owned = nullptr;     // [own slice] ef14: what was lost; ef21: sum of what the peers have sent
  float* estimate = nullptr;  // [n] ef21: what all ranks have of the result
};

// The same on all ranks. kFailed: value `index` of the slice sent by `rank` cannot be encoded; nothing was written.
struct Outcome {
  enum Kind { kFinite, kNonfinite, kFailed } kind = kFinite;
  int rank = -1;
  std::size_t index = 0;
};

Outcome all_reduce(Group& group, const ReduceCall& call, const EncodedReduce& what);

// Exact, in the order of ranks. T: float, double, std::int32_t, std::int64_t (integers wrap; no mean).
template <class T>
Outcome all_reduce_raw(Group& group, const ReduceCall& call, T* x);

struct Range {
  std::size_t begin, end;
  std::size_t size() const { return end - begin; }
};

// Slice `rank` of n values cut into `size` parts on multiples of `block`, as scrimp.shard_bounds.
Range shard(std::size_t n, int size, int rank, std::size_t block);

}  // namespace scrimp
