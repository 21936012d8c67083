#pragma once
// Small floats: 1 sign, kExponent exponent and kMantissa mantissa bits, denormals, bias 2^(kExponent-1) - 1. Magnitudes only;
// what lies above the largest value is the business of the codec.
#include "codecs/float_bits.h"

namespace scrimp {
namespace {

template <std::uint32_t kExponent, std::uint32_t kMantissa>
struct Minifloat {
  static constexpr std::uint32_t kShift = 23 - kMantissa;
  static constexpr std::uint32_t kBias = (1u << (kExponent - 1)) - 1;
  static constexpr std::uint32_t kRebias = 127 - kBias;

  // Rounds 0 ≤ magnitude half to even. Denormals: adding a float whose last bit is worth the smallest step rounds there.
  static SCRIMP_HD std::uint32_t encode(float magnitude) {
    const std::uint32_t bits = float_bits(magnitude), odd = (bits >> kShift) & 1u;
    const std::uint32_t normal = ((bits + (1u << (kShift - 1)) - 1 + odd) >> kShift) - (kRebias << kMantissa);
    const std::uint32_t grid = (kRebias + 1 + 23 - kMantissa) << 23;
    const std::uint32_t denormal = float_bits(magnitude + bits_float(grid)) - grid;
    return bits < ((kRebias + 1) << 23) ? denormal : normal;
  }

  // Exact: the product moves the exponent bias.
  static SCRIMP_HD float decode(std::uint32_t code) {
    return bits_float(code << kShift) * bits_float((127 + kRebias) << 23);
  }
};

}  // namespace
}  // namespace scrimp
