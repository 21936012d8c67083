#pragma once
// mxfp4: a block of 32 values is one E8M0 scale byte and 32 e2m1 elements (0, ½, 1, 1½, 2, 3, 4, 6), two in a byte, laid out
// as ggml does. Ties go to even, as OCP demands; ggml takes the smaller magnitude.
#include "codecs/microscale.h"

namespace scrimp {
namespace {

struct MXFP4 {
  static constexpr const char* kName = "mxfp4";
  static constexpr const char* kVariantKey = nullptr;
  static constexpr std::uint32_t kBlock = 32;
  static constexpr std::uint32_t kLargestBits = kInfBits - 1;
  static constexpr std::uint32_t kChoices = kMicroscaleChoice;
  using Scaled = Microscale<Minifloat<2, 1>, 1, 2, 6>;
  struct __attribute__((packed)) Block {
    std::uint8_t exponent;
    std::uint8_t pair[kBlock / 2];
  };

  static constexpr std::uint32_t nbytes(std::uint32_t n, const CodecOptions&) { return 1 + packed_nbytes<4>(n); }
  static SCRIMP_HD bool contractive(const CodecOptions&) { return true; }  // 0 is an element

  template <bool>
  static SCRIMP_HD void encode(const BlockValues& v, Block& b) {
    const std::uint32_t e = Scaled::scale_exponent(v.absmax, v.options.scale);
    std::uint8_t code[kBlock + 8];
    Scaled::encode<3>(v, e, code);
    b.exponent = static_cast<std::uint8_t>(e);
    pack_codes<4>(code, v.n, b.pair);
  }

  static SCRIMP_HD void decode(const Block& b, std::uint32_t n, const CodecOptions&, float* y) {
    const float scale = exponent_scale(b.exponent);
    unpack_codes<4>(b.pair, n, [&](std::uint32_t i, std::uint32_t code) { y[i] = scale * Scaled::element<3>(code); });
  }

  // Clamping loses up to 2 of 8; the smallest scale is 2^-127.
  static SCRIMP_HD double bound(float absmax, const CodecOptions&) { return absmax > 0 ? 0.5 * absmax + 0x1p-128 : 0.0; }

  static SCRIMP_HD void poison(std::uint32_t, Block& b) {
    memset(&b, 0, sizeof b);
    b.exponent = 255;
  }
};
static_assert(sizeof(MXFP4::Block) == 17, "mxfp4: wire layout changed");

}  // namespace
}  // namespace scrimp
