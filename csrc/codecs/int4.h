#pragma once
// int4: a block of 128 values is one fp32 scale and 64 bytes; x ≈ scale·(nibble − 8), nibble in 1…15. With h = ⌈n/2⌉
// for a block of n values, byte i holds value i in its low and value i + h in its high nibble (8 pads an odd end).
#include "codecs/options.h"
#include "codecs/uniform.h"

namespace scrimp {
namespace {

struct Int4 {
  static constexpr const char* kName = "int4";
  static constexpr std::uint32_t kBlock = 128;
  static constexpr bool kContractive = true;
  static constexpr std::int32_t kLevels = 7;
  struct __attribute__((packed)) Block {
    float scale;
    std::uint8_t pair[kBlock / 2];
  };
  static_assert(sizeof(Block) == 68, "int4: wire layout changed");

  static constexpr std::uint32_t nbytes(std::uint32_t n) { return 4 + (n + 1) / 2; }

  template <bool kStochastic>
  static SCRIMP_HD void encode(const float* x, std::uint32_t n, float absmax, const CodecOptions&, std::uint64_t key,
                               std::uint64_t index, Block& b) {
    std::int8_t code[kBlock];
    b.scale = absmax / static_cast<float>(kLevels);
    round_codes<kStochastic>(x, n, absmax, kLevels, key, index, code);
    const std::uint32_t half = (n + 1) / 2;
    if (n & 1) code[n] = 0;
    for (std::uint32_t i = 0; i < half; ++i)
      b.pair[i] = static_cast<std::uint8_t>((code[i] + 8) | ((code[i + half] + 8) << 4));
  }

  static SCRIMP_HD void decode(const Block& b, std::uint32_t n, float* y) {
    const std::uint32_t half = (n + 1) / 2;
    const float scale = b.scale;
    for (std::uint32_t i = 0; i < half; ++i) y[i] = scale * static_cast<float>((b.pair[i] & 15) - 8);
    for (std::uint32_t i = 0; i < n - half; ++i) y[i + half] = scale * static_cast<float>((b.pair[i] >> 4) - 8);
  }

  static SCRIMP_HD double bound(float absmax, const CodecOptions& o) {
    return uniform_bound(absmax, kLevels, o.rounding == Rounding::kStochastic ? 1.0 : 0.5);
  }

  static SCRIMP_HD void poison(std::uint32_t n, Block& b) {
    b.scale = bits_float(0x7fc00000u);
    for (std::uint32_t i = 0; i < (n + 1) / 2; ++i) b.pair[i] = 0x99;
  }
};

}  // namespace
}  // namespace scrimp
