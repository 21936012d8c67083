#pragma once
// The owner's part of an all-reduce over a network: add up what arrived for a chunk, encode the result once, and decode
// it as all ranks will. Byte for byte what python/scrimp/comm/collectives.py computes in four passes.
#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/codec.h"

namespace scrimp {

struct Combine {
  const Codec* codec;
  const float* own;                        // [n] this rank's exact values
  std::vector<const std::uint8_t*> parts;  // by rank; nullptr stands for `own`
  std::size_t n;
  bool mean;                               // else sum
  std::uint8_t* out;                       // [codec.nbytes(n)]
  std::uint64_t seed, step, first_index;   // of `own[0]`
  float* owned = nullptr;                  // [n] residual of ef14, read and written
  float* decoded = nullptr;                // [n] what all ranks will decode, or nullptr; may be `own`
  int threads = 0;
};

struct Combined {
  std::size_t failed;  // kAllEncoded, or the first value that cannot be encoded
  bool finite;         // what all ranks will decode
};

Combined combine(const Combine& what);

}  // namespace scrimp
