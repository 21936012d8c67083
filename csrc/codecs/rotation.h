#pragma once
// rot4, rot3, rot2, rot1 are stamped from RotatedBlock below: random signs, Hadamard transform, Lloyd–Max levels of the normal
// distribution and one scale (Vargaftik et al., DRIVE 2021, EDEN 2022). After the rotation any block looks normal, so the
// error does not depend on the distribution of the values.
#include "codecs/float_bits.h"
#include "codecs/hadamard.h"
#include "codecs/options.h"
#include "codecs/packing.h"
#include "core/rng.h"

namespace scrimp {
namespace {

// x[i] ← ±x[i]: value 32·j + i takes bit j of the draw of counter i.
SCRIMP_HD void flip_signs(float* x, std::uint32_t n, std::uint32_t seed) {
  const std::uint64_t key = mix64(seed);
  std::uint32_t draw[32];
  for (std::uint32_t i = 0; i < 32; ++i) draw[i] = random32(key, i);
  for (std::uint32_t j = 0; j < n; j += 32) {
    const std::uint32_t count = n - j < 32 ? n - j : 32, shift = 31 - j / 32;
    for (std::uint32_t i = 0; i < count; ++i)
      x[j + i] = bits_float(float_bits(x[j + i]) ^ ((draw[i] << shift) & 0x80000000u));
  }
}

// Positive levels of the optimal quantizer of N(0, 1) with 2^kBits levels (Lloyd 1982, Max 1960).
template <std::uint32_t kBits>
SCRIMP_HD constexpr float lloyd_level(std::uint32_t k) {
  if (kBits == 1) return 0.797884583f;
  constexpr float kLevel2[2] = {0.452780038f, 1.51041758f};
  constexpr float kLevel3[4] = {0.24509418f, 0.756005287f, 1.34390926f, 2.15194559f};
  constexpr float kLevel4[8] = {0.128395036f, 0.388048291f, 0.656759143f, 0.942340434f,
                                1.25623119f,  1.6180464f,   2.06901717f,  2.73258948f};
  return kBits == 2 ? kLevel2[k & 1] : kBits == 3 ? kLevel3[k & 3] : kLevel4[k & 7];
}

// Between levels t and t + 1.
template <std::uint32_t kBits>
SCRIMP_HD constexpr float lloyd_limit(std::uint32_t t) {
  return (lloyd_level<kBits>(t) + lloyd_level<kBits>(t + 1)) * 0.5f;
}

template <std::uint32_t t>
struct LevelIndex {
  static constexpr std::uint32_t value = t;
};

// Calls use(t) for t = 0…n-1 known to the compiler. With masks instead of choices, no value decides on a branch, and the
// loops around it vectorise.
template <std::uint32_t n, std::uint32_t t = 0, class Use>
SCRIMP_HD void each_level(Use use) {
  if constexpr (t < n) {
    use(LevelIndex<t>());
    each_level<n, t + 1>(use);
  }
}

// Bits of level t + 1 less those of level t.
template <std::uint32_t kBits>
SCRIMP_HD std::uint32_t lloyd_rise(std::uint32_t t) {
  return float_bits(lloyd_level<kBits>(t + 1)) - float_bits(lloyd_level<kBits>(t));
}

// Code: 2^(kBits-1) + magnitude index for positive values, 2^(kBits-1) - 1 - magnitude index for negative ones.
template <std::uint32_t kBits>
SCRIMP_HD void lloyd_choose(float u, std::uint32_t& code, float& level) {
  constexpr std::uint32_t kHalf = 1u << (kBits - 1);
  const float magnitude = fabsf(u);
  std::uint32_t k = 0, bits = float_bits(lloyd_level<kBits>(0));
  each_level<kHalf - 1>([&](auto t) {
    const std::uint32_t above = magnitude > lloyd_limit<kBits>(t.value);
    k += above;
    bits += lloyd_rise<kBits>(t.value) & (0 - above);
  });
  const std::uint32_t negative = u < 0;
  code = kHalf + (k ^ (0 - negative));  // -1 - k where negative
  level = bits_float(bits | negative << 31);
}

template <std::uint32_t kBits>
SCRIMP_HD float lloyd_value(std::uint32_t code) {
  constexpr std::uint32_t kHalf = 1u << (kBits - 1);
  const std::uint32_t negative = code < kHalf, k = (code - kHalf) ^ (0 - negative);
  std::uint32_t bits = float_bits(lloyd_level<kBits>(0));
  each_level<kHalf - 1>([&](auto t) { bits += lloyd_rise<kBits>(t.value) & (0 - static_cast<std::uint32_t>(k > t.value)); });
  return bits_float(bits | negative << 31);
}

// A cut block is padded with zeros to a power of two ≥ 16. Sign seed 0 marks a block of equal values, whose value is
// stored in place of the scale.
template <std::uint32_t kBits, std::uint32_t kBlockSize>
struct RotatedBlock {
  static constexpr const char* kVariantKey = "block";
  static constexpr std::uint32_t kBlock = kBlockSize;
  static constexpr std::uint32_t kLargestBits = kInfBits - 1;
  static constexpr std::uint32_t kChoices = kRotationChoice;
  struct __attribute__((packed)) Block {
    std::uint8_t sign_seed[3];
    float scale;
    std::uint8_t code[packed_nbytes<kBits>(kBlock)];
  };

  static constexpr std::uint32_t padded(std::uint32_t n) {
    if (n == kBlock) return kBlock;
    std::uint32_t size = 16;
    while (size < n) size *= 2;
    return size;
  }
  static constexpr std::uint32_t nbytes(std::uint32_t n, const CodecOptions&) { return 7 + packed_nbytes<kBits>(padded(n)); }

  // The MSE scale projects the block onto its codes, so it only takes energy away; the unbiased one may add.
  static SCRIMP_HD bool contractive(const CodecOptions& o) { return o.scale != ScaleRule::kUnbiased; }

  template <bool>
  static SCRIMP_HD void encode(const BlockValues& v, Block& b) {
    std::uint32_t n_others = 0;
    for (std::uint32_t i = 0; i < v.n; ++i) n_others += v.x[i] != v.x[0];
    const std::uint32_t size = padded(v.n);
    memset(&b, 0, nbytes(v.n, v.options));
    b.scale = v.x[0];
    if (!n_others) return;

    // Powers of two keep squares and sums in range: |x| ≤ 2 from here on, or denormal.
    const std::uint32_t exponent = float_bits(v.absmax) >> 23;
    const std::uint32_t lift = exponent < 2 ? 252 : exponent > 252 ? 2 : 254 - exponent;
    const float up = bits_float(lift << 23), down = bits_float((254 - lift) << 23);
    float y[kBlock];
    if (v.n < size) memset(y, 0, sizeof y);
    for (std::uint32_t i = 0; i < v.n; ++i) y[i] = v.x[i] * up;
    const std::uint32_t seed = 1 + static_cast<std::uint32_t>(mix64(v.key ^ mix64(v.index)) % 0xffffffu);
    flip_signs(y, size, seed);
    const float energy = lane_sum(size, [&](std::uint32_t i) { return y[i] * y[i]; });
    hadamard(y, size);

    std::uint8_t code[kBlock + 8];
    float level[kBlock];
    const float inverse = 1.0f / sqrtf(energy);
    for (std::uint32_t i = 0; i < size; ++i) {
      std::uint32_t chosen;
      lloyd_choose<kBits>(y[i] * inverse, chosen, level[i]);
      code[i] = static_cast<std::uint8_t>(chosen);
    }
    const float along = lane_sum(size, [&](std::uint32_t i) { return level[i] * y[i]; });
    const float length = lane_sum(size, [&](std::uint32_t i) { return level[i] * level[i]; });
    const bool unbiased = v.options.scale == ScaleRule::kUnbiased;
    b.scale = (unbiased ? energy / along : along / (length * static_cast<float>(size))) * down;
    for (std::uint32_t k = 0; k < 3; ++k) b.sign_seed[k] = static_cast<std::uint8_t>(seed >> (8 * k));
    pack_codes<kBits>(code, size, b.code);
  }

  static SCRIMP_HD void decode(const Block& b, std::uint32_t n, const CodecOptions&, float* y) {
    const std::uint32_t seed = b.sign_seed[0] | (b.sign_seed[1] << 8) | (b.sign_seed[2] << 16), size = padded(n);
    const float scale = b.scale;
    if (!seed) {
      for (std::uint32_t i = 0; i < n; ++i) y[i] = scale;
      return;
    }
    float value[kBlock];
    unpack_codes<kBits>(b.code, size, [&](std::uint32_t i, std::uint32_t code) { value[i] = lloyd_value<kBits>(code); });
    hadamard(value, size);
    flip_signs(value, size, seed);
    for (std::uint32_t i = 0; i < n; ++i) {
      const float decoded = value[i] * scale;
      const float capped = decoded > kMaxFloat ? kMaxFloat : decoded;
      y[i] = capped < -kMaxFloat ? -kMaxFloat : capped;
    }
  }

  // |x - decoded|∞ ≤ ‖x - decoded‖₂ ≤ ‖x‖₂ ≤ √block·absmax; the scale may be denormal.
  static SCRIMP_HD double bound(float absmax, const CodecOptions& o) {
    if (o.scale == ScaleRule::kUnbiased) return static_cast<double>(bits_float(kInfBits));
    return absmax > 0 ? 1.001 * sqrt(static_cast<double>(kBlock)) * absmax + 0x1p-136 : 0.0;
  }

  static SCRIMP_HD void poison(std::uint32_t, Block& b) {
    memset(&b, 0, sizeof b);
    b.scale = bits_float(kNanBits);
  }
};

}  // namespace
}  // namespace scrimp
