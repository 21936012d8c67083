#pragma once
// Collectives in shared memory: every rank writes its encoded slices where all can read, owners add them up out of the
// peers' memory and leave the encoded result there, everybody decodes it. The caller's arrays and residuals are as before
// unless a call returns; an array of the segment may also hold the whole result. Byte for byte what
// python/scrimp/comm/collectives.py computes.
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
  bool write_nonfinite;  // write a result that holds NaN or infinities; else leave the arrays as they are
  std::uint32_t tag;     // equal on all ranks for equal calls
  std::string label;
  std::size_t block = 1;  // slices begin at its multiples; with a codec, a multiple of the codec's block
  bool undo = true;       // without it, and with write_nonfinite, a raw all-reduce that fails may leave a part of the result
};

struct EncodedReduce {
  float* x;  // [n]; reduce_scatter does not change it
  const Codec* codec;
  std::uint64_t scatter_seed, gather_seed, step, first_index;
  Feedback feedback = Feedback::kNone;
  float* sent = nullptr;      // [n] ef14: what was lost; ef21: what the owners have of x
  float* owned = nullptr;     // [own slice] ef14: what was lost; ef21: sum of what the peers have sent
  float* estimate = nullptr;  // [n] ef21: what all ranks have of the result
};

// The same on all ranks. kFailed: value `index` of the array of `rank` cannot be encoded; nothing was written.
struct Outcome {
  enum Kind { kFinite, kNonfinite, kFailed } kind = kFinite;
  int rank = -1;
  std::size_t index = 0;
};

// T: float, double, std::int32_t, std::int64_t (integers wrap; no mean). Exact, in the order of ranks.
Outcome all_reduce(Group& group, const ReduceCall& call, const EncodedReduce& what);
template <class T>
Outcome all_reduce_raw(Group& group, const ReduceCall& call, T* x);

// out[own slice] = own slice of the sum or mean. `out` may not overlap x.
Outcome reduce_scatter(Group& group, const ReduceCall& call, const EncodedReduce& what, float* out);
template <class T>
Outcome reduce_scatter_raw(Group& group, const ReduceCall& call, const T* x, T* out);

// out[n] = the slices `mine` of all ranks, decoded also on their owner. `out` may hold `mine`.
Outcome all_gather(Group& group, const ReduceCall& call, const EncodedReduce& mine, float* out);
void all_gather_raw(Group& group, const ReduceCall& call, const std::byte* mine, std::byte* out);  // n counts bytes

// x of all ranks = x of `root`, decoded also on root.
Outcome broadcast(Group& group, const ReduceCall& call, const EncodedReduce& what, int root);
void broadcast_raw(Group& group, const ReduceCall& call, std::byte* x, int root);  // n counts bytes

struct Range {
  std::size_t begin, end;
  std::size_t size() const { return end - begin; }
};

// Slice `rank` of n values cut into `size` parts on multiples of `block`, as scrimp.shard_bounds.
Range shard(std::size_t n, int size, int rank, std::size_t block);

}  // namespace scrimp
