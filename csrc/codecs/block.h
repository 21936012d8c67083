#pragma once
// One block of any block codec: what happens to NaN and ±Inf before the codec sees the values. Shared by CPU and CUDA.
#include "codecs/options.h"
#include "codecs/uniform.h"

namespace scrimp {
namespace {

// finite[i] = x[i], but NaN becomes 0 and ±Inf the largest finite magnitude of the block, whose bits are returned.
template <std::uint32_t kBlock>
SCRIMP_HD std::uint32_t saturate(const float* x, std::uint32_t n, float (&finite)[kBlock]) {
  std::uint32_t top = 0;
  for (std::uint32_t i = 0; i < n; ++i) {
    const std::uint32_t bits = float_bits(x[i]) & 0x7fffffffu;
    if (bits < kInfBits && bits > top) top = bits;
  }
  const float limit = bits_float(top);
  for (std::uint32_t i = 0; i < n; ++i) {
    const std::uint32_t bits = float_bits(x[i]) & 0x7fffffffu;
    finite[i] = bits < kInfBits ? x[i] : bits > kInfBits ? 0.0f : x[i] < 0 ? -limit : limit;
  }
  return top;
}

SCRIMP_HD std::uint32_t first_nonfinite(const float* x, std::uint32_t n) {
  std::uint32_t i = 0;
  while (i < n && (float_bits(x[i]) & 0x7fffffffu) < kInfBits) ++i;
  return i;
}

// Encodes n ≤ C::kBlock values whose first has absolute index `index`. False when the policy is kRaise and one of them
// is not finite; b is then undefined.
template <class C, bool kStochastic>
SCRIMP_HD bool encode_block(const float* x, std::uint32_t n, const CodecOptions& options, Nonfinite nonfinite,
                            std::uint64_t key, std::uint64_t index, typename C::Block& b) {
  const std::uint32_t top = absmax_bits(x, n);
  if (__builtin_expect(top < kInfBits, 1)) {
    C::template encode<kStochastic>(x, n, bits_float(top), options, key, index, b);
    return true;
  }
  if (nonfinite == Nonfinite::kRaise) return false;
  if (nonfinite == Nonfinite::kPropagate) {
    C::poison(n, b);
    return true;
  }
  float finite[C::kBlock];
  const std::uint32_t finite_top = saturate<C::kBlock>(x, n, finite);
  C::template encode<kStochastic>(finite, n, bits_float(finite_top), options, key, index, b);
  return true;
}

}  // namespace
}  // namespace scrimp
