#pragma once
// nf4: a block of 64 values (or 32, 128, 256) is its fp32 absmax and one of 16 fixed levels a value, quantiles of the normal
// distribution (Dettmers et al., QLoRA, 2023). Bytes and absmax are those of bitsandbytes: the earlier value of a pair
// lies in the high nibble, a level is chosen by x·(1/absmax) > midpoint.
#include "codecs/float_bits.h"
#include "codecs/options.h"

namespace scrimp {
namespace {

SCRIMP_HD constexpr float nf4_level(std::uint32_t code) {
  constexpr float kLevel[16] = {-1.0f,
                                -0.6961928009986877f,
                                -0.5250730514526367f,
                                -0.39491748809814453f,
                                -0.28444138169288635f,
                                -0.18477343022823334f,
                                -0.09105003625154495f,
                                0.0f,
                                0.07958029955625534f,
                                0.16093020141124725f,
                                0.24611230194568634f,
                                0.33791524171829224f,
                                0.44070982933044434f,
                                0.5626170039176941f,
                                0.7229568362236023f,
                                1.0f};
  return kLevel[code];
}

template <std::uint32_t kBlockSize>
struct NF4 {
  static constexpr const char* kName = "nf4";
  static constexpr const char* kVariantKey = "block";
  static constexpr std::uint32_t kBlock = kBlockSize;
  static constexpr std::uint32_t kLargestBits = kInfBits - 1;
  static constexpr std::uint32_t kChoices = kNoChoice;
  static constexpr float kSmallest = 1e-38f;  // a smaller absmax counts as this, as in bitsandbytes: 1/absmax stays finite
  struct __attribute__((packed)) Block {
    float absmax;
    std::uint8_t pair[kBlock / 2];
  };

  static constexpr std::uint32_t nbytes(std::uint32_t n, const CodecOptions&) { return 4 + (n + 1) / 2; }
  static SCRIMP_HD bool contractive(const CodecOptions&) { return true; }  // 0 is a level, so no error exceeds its value

  template <bool>
  static SCRIMP_HD void encode(const BlockValues& v, Block& b) {
    const float inverse = 1.0f / (v.absmax < kSmallest ? kSmallest : v.absmax);
    std::uint8_t code[kBlock + 1];
    for (std::uint32_t i = 0; i < v.n; ++i) {
      const float scaled = v.x[i] * inverse;
      std::uint32_t level = 0;
      for (std::uint32_t k = 0; k < 15; ++k) level += scaled > (nf4_level(k) + nf4_level(k + 1)) * 0.5f;
      code[i] = static_cast<std::uint8_t>(level);
    }
    code[v.n] = 0;
    b.absmax = v.absmax;
    for (std::uint32_t i = 0; i < (v.n + 1) / 2; ++i)
      b.pair[i] = static_cast<std::uint8_t>((code[2 * i] << 4) | code[2 * i + 1]);
  }

  static SCRIMP_HD void decode(const Block& b, std::uint32_t n, const CodecOptions&, float* y) {
    const float absmax = b.absmax;
    for (std::uint32_t i = 0; i < n; ++i) y[i] = nf4_level((b.pair[i / 2] >> (i % 2 ? 0 : 4)) & 15u) * absmax;
  }

  // Half of the widest gap, -1 to -0.696.
  static SCRIMP_HD double bound(float absmax, const CodecOptions&) {
    return absmax > 0 ? 0.15191 * absmax + 1e-38 : 0.0;
  }

  static SCRIMP_HD void poison(std::uint32_t, Block& b) {
    memset(&b, 0, sizeof b);
    b.absmax = bits_float(kNanBits);
  }
};
static_assert(sizeof(NF4<64>::Block) == 36, "nf4: wire layout changed");

}  // namespace
}  // namespace scrimp
