#pragma once
// q4_0: GGUF's block of 32 values, an fp16 scale d = x*/-8 with x* the value of largest magnitude (the first of several),
// and 32 codes min(15, ⌊x·(1/d) + 8.5⌋), two in a byte. x ≈ d·(code - 8). Bytes are those of the gguf package.
#include "codecs/gguf_block.h"

namespace scrimp {
namespace {

struct Q4_0 : GgufBlock<4> {
  static constexpr const char* kName = "q4_0";
  static constexpr std::uint32_t kLargestBits = 0x48ffefffu;  // just below 65520·8: d must be finite in fp16

  template <bool>
  static SCRIMP_HD void encode(const BlockValues& v, Block& b) {
    const std::uint32_t top = float_bits(v.absmax);
    std::uint32_t at = 0;
    while (at + 1 < v.n && magnitude_bits(v.x[at]) != top) ++at;
    const float d = v.x[at] / -8.0f, inverse = v.absmax >= 0x1p-120f ? 1.0f / d : 0.0f;  // below, d is 0 in fp16 anyway
    b.scale = float_half(d);
    std::uint8_t code[kBlock + 8];
    for (std::uint32_t i = 0; i < v.n; ++i) {
      const std::int32_t shifted = static_cast<std::int32_t>(v.x[i] * inverse + 8.5f);
      code[i] = static_cast<std::uint8_t>(shifted > 15 ? 15 : shifted);
    }
    pack_codes<4>(code, v.n, b.code);
  }

  static SCRIMP_HD void decode(const Block& b, std::uint32_t n, const CodecOptions&, float* y) {
    const float d = half_float(b.scale);
    unpack_codes<4>(b.code, n, [&](std::uint32_t i, std::uint32_t code) {
      y[i] = d * static_cast<float>(static_cast<std::int32_t>(code) - 8);
    });
  }

  // A whole step where the side opposite to x* is clamped, and 8 times the rounding of d to fp16.
  static SCRIMP_HD double bound(float absmax, const CodecOptions&) {
    return absmax > 0 ? absmax * (1.0 / 8 + 0x1p-11 + 0x1p-20) + 8 * 0x1p-25 : 0.0;
  }
};

}  // namespace
}  // namespace scrimp
