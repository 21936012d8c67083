#pragma once
// bf16: the upper half of an fp32, half to even, as torch rounds. Non-finite values pass.
#include "codecs/float_bits.h"
#include "codecs/options.h"

namespace scrimp {
namespace {

struct BF16 {
  static constexpr const char* kName = "bf16";
  using Stored = std::uint16_t;
  static SCRIMP_HD Stored encode(float x, const CodecOptions&) {
    const std::uint32_t bits = float_bits(x);
    const std::uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
    const bool is_nan = (bits & 0x7fffffffu) > kInfBits;
    return static_cast<Stored>(is_nan ? 0x7fc0u : rounded);
  }
  static SCRIMP_HD float decode(Stored s, const CodecOptions&) { return bits_float(static_cast<std::uint32_t>(s) << 16); }
  static SCRIMP_HD double bound(float absmax, const CodecOptions&) {
    return float_bits(absmax) < 0x7f7f8000u ? absmax * 0x1p-8 + 0x1p-134 : static_cast<double>(bits_float(kInfBits));
  }
};

}  // namespace
}  // namespace scrimp
