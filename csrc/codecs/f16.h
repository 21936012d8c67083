#pragma once
// f16: IEEE half precision, half to even, as torch and NumPy round. Non-finite values pass; 65520 and above become infinite.
#include "codecs/float_bits.h"
#include "codecs/options.h"

namespace scrimp {
namespace {

struct F16 {
  static constexpr const char* kName = "f16";
  using Stored = std::uint16_t;
  static SCRIMP_HD Stored encode(float x, const CodecOptions&) { return float_half(x); }
  static SCRIMP_HD float decode(Stored s, const CodecOptions&) { return half_float(s); }
  static SCRIMP_HD double bound(float absmax, const CodecOptions&) {
    return absmax < 65520 ? absmax * 0x1p-11 + 0x1p-25 : static_cast<double>(bits_float(kInfBits));
  }
};

}  // namespace
}  // namespace scrimp
