#pragma once
// int8: a block of 128 values is one fp32 scale and 128 signed codes in -127…127; x ≈ scale·code.
#include "codecs/options.h"
#include "codecs/uniform.h"

namespace scrimp {
namespace {

struct Int8 {
  static constexpr const char* kName = "int8";
  static constexpr std::uint32_t kBlock = 128;
  static constexpr bool kContractive = true;
  static constexpr std::int32_t kLevels = 127;
  struct __attribute__((packed)) Block {
    float scale;
    std::int8_t code[kBlock];
  };
  static_assert(sizeof(Block) == 132, "int8: wire layout changed");

  static constexpr std::uint32_t nbytes(std::uint32_t n) { return 4 + n; }  // of a block cut after n values

  template <bool kStochastic>
  static SCRIMP_HD void encode(const float* x, std::uint32_t n, float absmax, const CodecOptions&, std::uint64_t key,
                               std::uint64_t index, Block& b) {
    b.scale = absmax / static_cast<float>(kLevels);
    round_codes<kStochastic>(x, n, absmax, kLevels, key, index, b.code);
  }

  static SCRIMP_HD void decode(const Block& b, std::uint32_t n, float* y) {
    const float scale = b.scale;
    for (std::uint32_t i = 0; i < n; ++i) y[i] = scale * static_cast<float>(b.code[i]);
  }

  static SCRIMP_HD double bound(float absmax, const CodecOptions& o) {
    return uniform_bound(absmax, kLevels, o.rounding == Rounding::kStochastic ? 1.0 : 0.5);
  }

  static SCRIMP_HD void poison(std::uint32_t n, Block& b) {
    b.scale = bits_float(0x7fc00000u);
    for (std::uint32_t i = 0; i < n; ++i) b.code[i] = 1;
  }
};

}  // namespace
}  // namespace scrimp
