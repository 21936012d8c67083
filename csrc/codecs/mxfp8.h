#pragma once
// mxfp8: a block of 32 values is one E8M0 scale byte and 32 e4m3 elements up to 448.
#include "codecs/microscale.h"

namespace scrimp {
namespace {

struct MXFP8 {
  static constexpr const char* kName = "mxfp8";
  static constexpr const char* kVariantKey = nullptr;
  static constexpr std::uint32_t kBlock = 32;
  static constexpr std::uint32_t kLargestBits = kInfBits - 1;
  static constexpr std::uint32_t kChoices = kMicroscaleChoice;
  using Scaled = Microscale<Minifloat<4, 3>, 3, 8, 448>;
  struct __attribute__((packed)) Block {
    std::uint8_t exponent;
    std::uint8_t code[kBlock];
  };

  static constexpr std::uint32_t nbytes(std::uint32_t n, const CodecOptions&) { return 1 + n; }
  static SCRIMP_HD bool contractive(const CodecOptions&) { return true; }  // 0 is an element

  template <bool>
  static SCRIMP_HD void encode(const BlockValues& v, Block& b) {
    const std::uint32_t e = Scaled::scale_exponent(v.absmax, v.options.scale);
    b.exponent = static_cast<std::uint8_t>(e);
    Scaled::encode<7>(v, e, b.code);
  }

  // Elements that no encoder writes, ±NaN, decode to NaN.
  static SCRIMP_HD void decode(const Block& b, std::uint32_t n, const CodecOptions&, float* y) {
    const float scale = exponent_scale(b.exponent);
    for (std::uint32_t i = 0; i < n; ++i) {
      const float element = Scaled::element<7>(b.code[i]);
      y[i] = scale * ((b.code[i] & 0x7fu) == 0x7fu ? bits_float(kNanBits) : element);
    }
  }

  // Clamping loses up to 64 of 512.
  static SCRIMP_HD double bound(float absmax, const CodecOptions&) { return absmax > 0 ? 0.125 * absmax + 0x1p-137 : 0.0; }

  static SCRIMP_HD void poison(std::uint32_t, Block& b) {
    memset(&b, 0, sizeof b);
    b.exponent = 255;
  }
};
static_assert(sizeof(MXFP8::Block) == 33, "mxfp8: wire layout changed");

}  // namespace
}  // namespace scrimp
