#pragma once
// sign: a block of 128 values (or 32) is one fp32 scale, the mean of |x|, and one sign bit a value (1 = negative);
// x ≈ ±scale. A zero decodes to +scale, except in a block of zeros.
#include "codecs/float_bits.h"
#include "codecs/options.h"
#include "codecs/packing.h"

namespace scrimp {
namespace {

template <std::uint32_t kBlockSize>
struct Sign {
  static constexpr const char* kName = "sign";
  static constexpr const char* kVariantKey = "block";
  static constexpr std::uint32_t kBlock = kBlockSize;
  static constexpr std::uint32_t kLargestBits = kInfBits - 1;
  static constexpr std::uint32_t kChoices = kNoChoice;
  struct __attribute__((packed)) Block {
    float scale;
    std::uint8_t bits[kBlock / 8];
  };

  static constexpr std::uint32_t nbytes(std::uint32_t n, const CodecOptions&) { return 4 + packed_nbytes<1>(n); }

  // ‖x - decoded‖² = ‖x‖² - ‖x‖₁²/n.
  static SCRIMP_HD bool contractive(const CodecOptions&) { return true; }

  template <bool>
  static SCRIMP_HD void encode(const BlockValues& v, Block& b) {
    const float down = v.absmax > 0x1p100f ? 0x1p-16f : 1.0f;  // keeps the sum finite; exact
    b.scale = lane_sum(v.n, [&](std::uint32_t i) { return fabsf(v.x[i]) * down; }) / static_cast<float>(v.n) / down;
    std::uint8_t negative[kBlock + 8];
    for (std::uint32_t i = 0; i < v.n; ++i) negative[i] = v.x[i] < 0;
    pack_codes<1>(negative, v.n, b.bits);
  }

  static SCRIMP_HD void decode(const Block& b, std::uint32_t n, const CodecOptions&, float* y) {
    const std::uint32_t scale = float_bits(b.scale);
    unpack_codes<1>(b.bits, n, [&](std::uint32_t i, std::uint32_t bit) { y[i] = bits_float(scale ^ (bit << 31)); });
  }

  // |x| and the scale both lie in [0, absmax].
  static SCRIMP_HD double bound(float absmax, const CodecOptions&) { return absmax * (1 + 0x1p-16) + 0x1p-142; }

  static SCRIMP_HD void poison(std::uint32_t, Block& b) {
    memset(&b, 0, sizeof b);
    b.scale = bits_float(kNanBits);
  }
};
static_assert(sizeof(Sign<128>::Block) == 20, "sign: wire layout changed");

}  // namespace
}  // namespace scrimp
