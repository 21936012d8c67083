#pragma once
// sign: a block of 128 values is one fp32 scale, the mean of |x|, and one sign bit a value (bit i mod 8 of byte ⌊i/8⌋,
// 1 = negative); x ≈ ±scale. A zero decodes to +scale, except in a block of zeros.
#include "codecs/options.h"
#include "codecs/uniform.h"

namespace scrimp {
namespace {

struct Sign {
  static constexpr const char* kName = "sign";
  static constexpr std::uint32_t kBlock = 128;
  static constexpr bool kContractive = true;
  struct __attribute__((packed)) Block {
    float scale;
    std::uint8_t bits[kBlock / 8];
  };
  static_assert(sizeof(Block) == 20, "sign: wire layout changed");

  static constexpr std::uint32_t nbytes(std::uint32_t n) { return 4 + (n + 7) / 8; }

  template <bool kStochastic>
  static SCRIMP_HD void encode(const float* x, std::uint32_t n, float, const CodecOptions&, std::uint64_t,
                               std::uint64_t, Block& b) {
    b.scale = abs_sum(x, n) / static_cast<float>(n);
    for (std::uint32_t i = 0; i < (n + 7) / 8; ++i) b.bits[i] = 0;
    for (std::uint32_t i = 0; i < n; ++i)
      b.bits[i / 8] = static_cast<std::uint8_t>(b.bits[i / 8] | ((x[i] < 0 ? 1u : 0u) << (i % 8)));
  }

  static SCRIMP_HD void decode(const Block& b, std::uint32_t n, float* y) {
    const float scale = b.scale;
    for (std::uint32_t i = 0; i < n; ++i) y[i] = (b.bits[i / 8] >> (i % 8)) & 1 ? -scale : scale;
  }

  // |x| and the scale both lie in [0, absmax].
  static SCRIMP_HD double bound(float absmax, const CodecOptions&) { return absmax * (1 + 0x1p-16) + 0x1p-142; }

  static SCRIMP_HD void poison(std::uint32_t n, Block& b) {
    b.scale = bits_float(0x7fc00000u);
    for (std::uint32_t i = 0; i < (n + 7) / 8; ++i) b.bits[i] = 0;
  }
};

}  // namespace
}  // namespace scrimp
