#pragma once
// raw, f16, bf16: one stored number a value, no scale. Non-finite values pass through.
#include "codecs/options.h"
#include "codecs/uniform.h"

namespace scrimp {
namespace {

struct Raw {
  static constexpr const char* kName = "raw";
  using Stored = float;
  static SCRIMP_HD Stored encode(float x, const CodecOptions&) { return x; }
  static SCRIMP_HD float decode(Stored s, const CodecOptions&) { return s; }
  static SCRIMP_HD double bound(float, const CodecOptions&) { return 0; }
};

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

struct F16 {
  static constexpr const char* kName = "f16";
  using Stored = std::uint16_t;
  // Round half to even by adding a magic number whose exponent puts the last kept bit at the rounding position.
  static SCRIMP_HD Stored encode(float x, const CodecOptions&) {
    const std::uint32_t bits = float_bits(x), magnitude = bits & 0x7fffffffu, sign = (bits >> 16) & 0x8000u;
    const std::uint32_t odd = (magnitude >> 13) & 1u;
    const std::uint32_t normal = (magnitude - 0x38000000u + 0xfffu + odd) >> 13;
    const std::uint32_t denormal = float_bits(bits_float(magnitude) + 0.5f) - 0x3f000000u;
    std::uint32_t half = magnitude < 0x38800000u ? denormal : normal;
    half = magnitude >= 0x477ff000u ? 0x7c00u : half;  // 65520 and above round to infinity
    half = magnitude > kInfBits ? 0x7e00u : half;
    return static_cast<Stored>(sign | half);
  }
  static SCRIMP_HD float decode(Stored s, const CodecOptions&) {
    const std::uint32_t sign = static_cast<std::uint32_t>(s & 0x8000u) << 16, magnitude = s & 0x7fffu;
    const float scaled = bits_float(magnitude << 13) * 0x1p112f;  // exact: moves the exponent bias from 15 to 127
    const std::uint32_t bits = magnitude >= 0x7c00u ? (magnitude << 13) | 0x7f800000u : float_bits(scaled);
    return bits_float(sign | bits);
  }
  static SCRIMP_HD double bound(float absmax, const CodecOptions&) {
    return absmax < 65520 ? absmax * 0x1p-11 + 0x1p-25 : static_cast<double>(bits_float(kInfBits));
  }
};

}  // namespace
}  // namespace scrimp
