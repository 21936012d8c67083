#pragma once
// Blocks of 32 small floats under a power-of-two scale, OCP Microscaling Formats 1.0: E8M0 scale byte (2^(e-127), 255 = NaN),
// elements half to even, clamped to the largest. scale=floor is the standard's rule; rceil and even, as torchao has them,
// round the scale up, so that large elements are clamped less or not at all.
#include "codecs/minifloat.h"
#include "codecs/options.h"
#include "codecs/packing.h"

namespace scrimp {
namespace {

SCRIMP_HD float exponent_scale(std::uint32_t e) {
  const std::uint32_t bits = e ? e << 23 : 0x00400000u;  // 2^-127 is denormal
  return bits_float(e == 255 ? kNanBits : bits);
}

// 2^(127-e): what values are multiplied by.
SCRIMP_HD float inverse_exponent_scale(std::uint32_t e) { return bits_float((254 - e) << 23); }

// kLargest = kLargestInt·2^kLargestShift is the largest element, kTop the exponent of its leading bit.
template <class Format, std::uint32_t kMantissa, std::uint32_t kTop, std::uint32_t kLargestInt>
struct Microscale {
  static constexpr float kLargest = static_cast<float>(kLargestInt);

  static SCRIMP_HD std::uint32_t scale_exponent(float absmax, ScaleRule rule) {
    std::uint32_t bits = float_bits(absmax);
    std::uint32_t down = kTop;
    if (rule == ScaleRule::kEven) bits += 1u << (23 - kMantissa - 1);
    if (rule == ScaleRule::kRceil) {
      bits = float_bits(absmax / kLargest) + 0x7fffffu;  // up to the next power of two
      down = 0;
    }
    const std::uint32_t e = bits >> 23;
    const std::uint32_t highest = 254 - kTop;  // one more and the largest element would be infinite
    return e <= down ? 0 : e - down > highest ? highest : e - down;
  }

  // Sign at bit kSignBit of the code.
  template <std::uint32_t kSignBit>
  static SCRIMP_HD void encode(const BlockValues& v, std::uint32_t e, std::uint8_t* code) {
    const float inverse = inverse_exponent_scale(e);
    for (std::uint32_t i = 0; i < v.n; ++i) {
      const std::uint32_t bits = float_bits(v.x[i] * inverse), sign = (bits >> 31) << kSignBit;
      const std::uint32_t magnitude = bits & 0x7fffffffu, top = float_bits(kLargest);
      code[i] = static_cast<std::uint8_t>(sign | Format::encode(bits_float(magnitude < top ? magnitude : top)));
    }
  }

  template <std::uint32_t kSignBit>
  static SCRIMP_HD float element(std::uint32_t code) {
    const std::uint32_t sign = (code >> kSignBit) << 31, magnitude = code & ((1u << kSignBit) - 1);
    return bits_float(sign | float_bits(Format::decode(magnitude)));
  }
};

// mxfp4 and mxfp8: the scale byte and 32 elements of kBits bits, packed.
template <std::uint32_t kBits, class ScaledElements>
struct MicroscaleBlock {
  using Scaled = ScaledElements;
  static constexpr const char* kVariantKey = nullptr;
  static constexpr std::uint32_t kBlock = 32;
  static constexpr std::uint32_t kLargestBits = kInfBits - 1;
  static constexpr std::uint32_t kChoices = kMicroscaleChoice;
  struct __attribute__((packed)) Block {
    std::uint8_t exponent;
    std::uint8_t code[packed_nbytes<kBits>(kBlock)];
  };

  static constexpr std::uint32_t nbytes(std::uint32_t n, const CodecOptions&) { return 1 + packed_nbytes<kBits>(n); }
  static SCRIMP_HD bool contractive(const CodecOptions&) { return true; }  // 0 is an element

  template <bool>
  static SCRIMP_HD void encode(const BlockValues& v, Block& b) {
    const std::uint32_t e = Scaled::scale_exponent(v.absmax, v.options.scale);
    std::uint8_t code[kBlock + 8];
    Scaled::template encode<kBits - 1>(v, e, code);
    b.exponent = static_cast<std::uint8_t>(e);
    pack_codes<kBits>(code, v.n, b.code);
  }

  // The e4m3 codes ±0x7f are NaN; e2m1 has none.
  static SCRIMP_HD void decode(const Block& b, std::uint32_t n, const CodecOptions&, float* y) {
    const float scale = exponent_scale(b.exponent);
    unpack_codes<kBits>(b.code, n, [&](std::uint32_t i, std::uint32_t code) {
      const float element = Scaled::template element<kBits - 1>(code);
      y[i] = scale * (kBits == 8 && (code & 0x7fu) == 0x7fu ? bits_float(kNanBits) : element);
    });
  }

  static SCRIMP_HD void poison(std::uint32_t, Block& b) {
    memset(&b, 0, sizeof b);
    b.exponent = 255;
  }
};

}  // namespace
}  // namespace scrimp
