#pragma once
// e4m3: the 8-bit float with 4 exponent bits and no infinity (OCP "e4m3fn"), a plain cast, bit for bit as torch: half to
// even, magnitudes above 448 and infinities become 448, NaN keeps its sign.
#include "codecs/minifloat.h"
#include "codecs/options.h"

namespace scrimp {
namespace {

struct E4M3 {
  static constexpr const char* kName = "e4m3";
  using Stored = std::uint8_t;
  using Format = Minifloat<4, 3>;
  static constexpr float kLargest = 448;
  static SCRIMP_HD Stored encode(float x, const CodecOptions&) {
    const std::uint32_t bits = float_bits(x), sign = (bits >> 24) & 0x80u, magnitude = bits & 0x7fffffffu;
    const float clamped = magnitude > float_bits(kLargest) ? kLargest : bits_float(magnitude);
    return static_cast<Stored>(sign | (magnitude > kInfBits ? 0x7fu : Format::encode(clamped)));
  }
  static SCRIMP_HD float decode(Stored s, const CodecOptions&) {
    const std::uint32_t magnitude = s & 0x7fu, sign = static_cast<std::uint32_t>(s & 0x80u) << 24;
    return bits_float(sign | (magnitude == 0x7fu ? kNanBits : float_bits(Format::decode(magnitude))));
  }
  static SCRIMP_HD double bound(float absmax, const CodecOptions&) {
    const double rounding = absmax * 0x1p-4 + 0x1p-10, clamping = static_cast<double>(absmax) - kLargest;
    return clamping > rounding ? clamping : rounding;
  }
};

}  // namespace
}  // namespace scrimp
