#pragma once
// One block of any block codec: what happens to NaN, ±Inf and values beyond the codec's range before the codec sees them.
// Shared by CPU and CUDA.
#include "codecs/float_bits.h"
#include "codecs/options.h"

namespace scrimp {
namespace {

// Index of the first magnitude above `limit`, as bits; NaN is above any.
SCRIMP_HD std::uint32_t first_above(const float* x, std::uint32_t n, std::uint32_t limit) {
  std::uint32_t i = 0;
  while (i < n && magnitude_bits(x[i]) <= limit) ++i;
  return i;
}

// finite[i] = x[i], but NaN becomes 0, ±Inf the largest magnitude of the rest of the block, and a finite magnitude above
// `limit` becomes the limit. Returns the bits of the largest magnitude of the result.
SCRIMP_HD std::uint32_t saturate(const float* x, std::uint32_t n, std::uint32_t limit, float* finite) {
  std::uint32_t top = 0;
  for (std::uint32_t i = 0; i < n; ++i) {
    const std::uint32_t bits = magnitude_bits(x[i]), held = bits < limit ? bits : limit;
    if (bits < kInfBits && held > top) top = held;
  }
  for (std::uint32_t i = 0; i < n; ++i) {
    const std::uint32_t bits = magnitude_bits(x[i]), held = bits < top ? bits : top;
    finite[i] = bits > kInfBits ? 0.0f : bits_float(held | (float_bits(x[i]) & 0x80000000u));
  }
  return top;
}

// Encodes n ≤ C::kBlock values whose first has absolute index `index`. False when the policy is kRaise and one of them
// cannot be stored; b is then undefined.
template <class C, bool kStochastic>
SCRIMP_HD bool encode_block(const float* x, std::uint32_t n, const CodecOptions& options, Nonfinite nonfinite,
                            std::uint64_t key, std::uint64_t index, typename C::Block& b) {
  float finite[C::kBlock];
  std::uint32_t top = absmax_bits(x, n);
  bool poisoned = false;
  if (__builtin_expect(top > C::kLargestBits, 0)) {
    if (nonfinite == Nonfinite::kRaise) return false;
    poisoned = nonfinite == Nonfinite::kPropagate;
    top = saturate(x, n, C::kLargestBits, finite);
    x = finite;
  }
  C::template encode<kStochastic>({x, n, bits_float(top), options, key, index}, b);
  if (__builtin_expect(poisoned, 0)) C::poison(n, b);
  return true;
}

}  // namespace
}  // namespace scrimp
