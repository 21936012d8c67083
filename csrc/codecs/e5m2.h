#pragma once
// e5m2: the 8-bit float with 5 exponent bits (OCP), a plain cast, bit for bit as torch: half to even, infinities pass,
// 61440 and above become infinite, NaN keeps its sign.
#include "codecs/minifloat.h"
#include "codecs/options.h"

namespace scrimp {
namespace {

struct E5M2 {
  static constexpr const char* kName = "e5m2";
  using Stored = std::uint8_t;
  using Format = Minifloat<5, 2>;
  static SCRIMP_HD Stored encode(float x, const CodecOptions&) {
    const std::uint32_t bits = float_bits(x), sign = (bits >> 24) & 0x80u, magnitude = bits & 0x7fffffffu;
    const float clamped = magnitude > 0x47700000u ? 61440.0f : bits_float(magnitude);  // 61440 rounds to infinity
    return static_cast<Stored>(sign | (magnitude > kInfBits ? 0x7fu : Format::encode(clamped)));
  }
  static SCRIMP_HD float decode(Stored s, const CodecOptions&) {
    const std::uint32_t magnitude = s & 0x7fu, sign = static_cast<std::uint32_t>(s & 0x80u) << 24;
    const std::uint32_t special = magnitude == 0x7cu ? kInfBits : kNanBits;
    return bits_float(sign | (magnitude < 0x7cu ? float_bits(Format::decode(magnitude)) : special));
  }
  static SCRIMP_HD double bound(float absmax, const CodecOptions&) {
    return absmax < 61440 ? absmax * 0x1p-3 + 0x1p-17 : static_cast<double>(bits_float(kInfBits));
  }
};

}  // namespace
}  // namespace scrimp
