#pragma once
// q8_0: GGUF's block of 32 values, an fp16 scale d = absmax/127 and 32 signed codes; bytes are those of the gguf package:
// codes are round-half-away of x·(1/d) with d not yet rounded to fp16. x ≈ d·code.
#include "codecs/gguf_block.h"

namespace scrimp {
namespace {

struct Q8_0 : GgufBlock<8> {
  static constexpr const char* kName = "q8_0";
  static constexpr std::uint32_t kLargestBits = 0x4afdf01fu;  // just below 65520·127: d must be finite in fp16

  template <bool>
  static SCRIMP_HD void encode(const BlockValues& v, Block& b) {
    const float d = v.absmax / 127.0f, inverse = d >= 0x1p-120f ? 1.0f / d : 0.0f;  // below, d is 0 in fp16 anyway
    b.scale = float_half(d);
    for (std::uint32_t i = 0; i < v.n; ++i) {
      const float scaled = v.x[i] * inverse, magnitude = fabsf(scaled);
      const std::int32_t floored = static_cast<std::int32_t>(magnitude);
      const std::int32_t away = floored + (magnitude - static_cast<float>(floored) >= 0.5f);
      b.code[i] = static_cast<std::uint8_t>(scaled < 0 ? -away : away);
    }
  }

  static SCRIMP_HD void decode(const Block& b, std::uint32_t n, const CodecOptions&, float* y) {
    const float d = half_float(b.scale);
    for (std::uint32_t i = 0; i < n; ++i) y[i] = d * static_cast<float>(static_cast<std::int8_t>(b.code[i]));
  }

  // Half a step, and 127 times the rounding of d to fp16.
  static SCRIMP_HD double bound(float absmax, const CodecOptions&) {
    return absmax > 0 ? absmax * (0.5 / 127 + 0x1p-11 + 0x1p-20) + 128 * 0x1p-25 : 0.0;
  }
};

}  // namespace
}  // namespace scrimp
