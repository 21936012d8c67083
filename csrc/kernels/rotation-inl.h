#pragma once
// The rotation codecs' full blocks: what codecs/rotation.h defines, in three passes over a block that stays in the
// first-level cache instead of ten. This is what the instruction sets share; rotation_avx512-inl.h and rotation_avx2-inl.h
// hold the passes. tests/cpp/test_kernels.cpp holds them to that header, byte for byte.
#include "codecs/rotation.h"

namespace scrimp {
namespace {
namespace rotated {

// The values of 2^kBits codes; the sixteen lanes repeat, because permutations read four bits of an index.
template <std::uint32_t kBits>
struct Levels {
  alignas(64) float value[16];
  constexpr Levels() : value{} {
    constexpr std::uint32_t kHalf = 1u << (kBits - 1);
    for (std::uint32_t c = 0; c < 16; ++c) {
      const std::uint32_t code = c % (2 * kHalf);
      value[c] = code < kHalf ? -lloyd_level<kBits>(kHalf - 1 - code) : lloyd_level<kBits>(code - kHalf);
    }
  }
};

template <std::uint32_t kBits>
constexpr Levels<kBits> kLevels;

// Σ level² of a block of one bit.
template <std::uint32_t kBlock>
constexpr float length_of_one_bit() {
  float lane = 0;
  for (std::uint32_t i = 0; i < kBlock; i += 16) lane += lloyd_level<1>(0) * lloyd_level<1>(0);
  return 16 * lane;
}

// C is one of Rot1…Rot4.
template <class C, class Passes>
struct InPasses : C {
  using Block = typename C::Block;
  static constexpr std::uint32_t kBlock = C::kBlock;

  template <bool kStochastic>
  static inline void encode(const BlockValues& v, Block& b) {
    if (v.n < kBlock) return C::template encode<kStochastic>(v, b);
    std::uint32_t n_equal = 1;
    while (n_equal < kBlock && v.x[n_equal] == v.x[0]) ++n_equal;
    if (n_equal == kBlock) {
      memset(&b, 0, sizeof b);
      b.scale = v.x[0];
      return;
    }
    const std::uint32_t exponent = float_bits(v.absmax) >> 23;
    const std::uint32_t lift = exponent < 2 ? 252 : exponent > 252 ? 2 : 254 - exponent;
    const float down = bits_float((254 - lift) << 23);
    const std::uint32_t seed = 1 + static_cast<std::uint32_t>(mix64(v.key ^ mix64(v.index)) % 0xffffffu);
    alignas(64) float y[kBlock];
    const float energy = Passes::rotate(v.x, bits_float(lift << 23), seed, y);
    float length;
    const float along = Passes::write_codes(y, 1.0f / sqrtf(energy), b.code, length);
    const bool unbiased = v.options.scale == ScaleRule::kUnbiased;
    b.scale = (unbiased ? energy / along : along / (length * static_cast<float>(kBlock))) * down;
    for (std::uint32_t k = 0; k < 3; ++k) b.sign_seed[k] = static_cast<std::uint8_t>(seed >> (8 * k));
  }

  static inline void decode(const Block& b, std::uint32_t n, const CodecOptions& options, float* y) {
    if (n < kBlock) return C::decode(b, n, options, y);
    decode_full<false>(b, y);
  }

  // y += decoded.
  static inline void decode_add(const Block& b, float* y) { decode_full<true>(b, y); }

 private:
  template <bool kAdd>
  static inline void decode_full(const Block& b, float* y) {
    const std::uint32_t seed = b.sign_seed[0] | (b.sign_seed[1] << 8) | (b.sign_seed[2] << 16);
    if (!seed) {
      for (std::uint32_t i = 0; i < kBlock; ++i) y[i] = kAdd ? y[i] + b.scale : b.scale;
      return;
    }
    Passes::template decode<kAdd>(b.code, seed, b.scale, y);
  }
};

}  // namespace rotated
}  // namespace
}  // namespace scrimp
