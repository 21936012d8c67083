#pragma once
// The rotation codecs' full blocks in AVX-512. Included by fast_blocks-inl.h alone.
#include <immintrin.h>

#include "kernels/rotation-inl.h"

namespace scrimp {
namespace {
namespace rotated {

// v·(±1) is exact, so the fused operation rounds once, as the sum does; it leaves the adders to the larger strides.
inline __m512 stride1_to_8(__m512 v) {
  const __m512 s1 = _mm512_setr_ps(1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1);
  const __m512 s2 = _mm512_setr_ps(1, 1, -1, -1, 1, 1, -1, -1, 1, 1, -1, -1, 1, 1, -1, -1);
  const __m512 s4 = _mm512_setr_ps(1, 1, 1, 1, -1, -1, -1, -1, 1, 1, 1, 1, -1, -1, -1, -1);
  const __m512 s8 = _mm512_setr_ps(1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1, -1, -1, -1);
  v = _mm512_fmadd_ps(v, s1, _mm512_permute_ps(v, 0b10110001));
  v = _mm512_fmadd_ps(v, s2, _mm512_permute_ps(v, 0b01001110));
  v = _mm512_fmadd_ps(v, s4, _mm512_shuffle_f32x4(v, v, 0b10110001));
  return _mm512_fmadd_ps(v, s8, _mm512_shuffle_f32x4(v, v, 0b01001110));
}

// The strides between kCount registers.
template <std::uint32_t kCount>
inline __attribute__((always_inline)) void butterflies(__m512 (&v)[kCount]) {
#pragma GCC unroll 3
  for (std::uint32_t h = 1; h < kCount; h *= 2)
#pragma GCC unroll 8
    for (std::uint32_t k = 0; k < kCount; ++k) {
      if (k & h) continue;
      const __m512 low = v[k], high = v[k + h];
      v[k] = _mm512_add_ps(low, high);
      v[k + h] = _mm512_sub_ps(low, high);
    }
}

// The draws of flip_signs: value 16·k + i takes bit k / 2 of lane i of draw k % 2.
struct Signs {
  __m512i draw[2];

  explicit Signs(std::uint32_t seed) {
    const std::uint64_t key = mix64(seed);
    const __m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    for (int k = 0; k < 2; ++k) {  // random32 of sixteen counters
      __m512i h = _mm512_xor_si512(_mm512_add_epi32(lane, _mm512_set1_epi32(16 * k)), _mm512_set1_epi32(static_cast<int>(key)));
      h = _mm512_xor_si512(h, _mm512_srli_epi32(h, 16));
      h = _mm512_mullo_epi32(h, _mm512_set1_epi32(static_cast<int>(0x85ebca6bu)));
      h = _mm512_xor_si512(h, _mm512_srli_epi32(h, 13));
      h = _mm512_add_epi32(h, _mm512_set1_epi32(static_cast<int>(key >> 32)));
      h = _mm512_mullo_epi32(h, _mm512_set1_epi32(static_cast<int>(0xc2b2ae35u)));
      draw[k] = _mm512_xor_si512(h, _mm512_srli_epi32(h, 16));
    }
  }
};

// x with the signs that lie in the highest bits.
inline __m512 flipped(__m512 x, __m512i highest) {
  constexpr int kXorAnd = 0x78;  // a ^ (b & c)
  const __m512i sign = _mm512_set1_epi32(static_cast<int>(0x80000000u));
  return _mm512_castsi512_ps(_mm512_ternarylogic_epi32(_mm512_castps_si512(x), highest, sign, kXorAnd));
}

// The end of lane_sum.
inline float sum_of_lanes(__m512 v) {
  const __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

// lloyd_choose of sixteen values.
template <std::uint32_t kBits>
inline __m512i choose(__m512 u) {
  constexpr std::uint32_t kHalf = 1u << (kBits - 1);
  const __m512 magnitude = _mm512_abs_ps(u);
  const __m512i one = _mm512_set1_epi32(1);
  __m512i code = _mm512_set1_epi32(kHalf);
  each_level<kHalf - 1>([&](auto t) {
    const __mmask16 above = _mm512_cmp_ps_mask(magnitude, _mm512_set1_ps(lloyd_limit<kBits>(t.value)), _CMP_GT_OQ);
    code = _mm512_mask_add_epi32(code, above, code, one);
  });
  const __mmask16 negative = _mm512_cmp_ps_mask(u, _mm512_setzero_ps(), _CMP_LT_OQ);
  return _mm512_mask_sub_epi32(code, negative, _mm512_set1_epi32(2 * kHalf - 1), code);
}

// Codes 16·k … 16·k + 15 of a packed block, in the low bits of each lane.
template <std::uint32_t kBits, std::uint32_t kBlock>
inline __m512i codes16(const std::uint8_t* packed, std::uint32_t k) {
  if constexpr (kBits == 3) {
    std::uint16_t high;
    memcpy(&high, packed + packed_nbytes<2>(kBlock) + 2 * k, sizeof high);
    const __m512i low = _mm512_and_si512(codes16<2, kBlock>(packed, k), _mm512_set1_epi32(3));
    return _mm512_mask_or_epi32(low, high, low, _mm512_set1_epi32(4));
  } else {
    constexpr std::uint32_t kRun = packed_nbytes<kBits>(kBlock) / 16;
    const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(packed + 16 * (k % kRun)));
    return _mm512_srl_epi32(_mm512_cvtepu8_epi32(bytes), _mm_cvtsi32_si128(static_cast<int>(kBits * (k / kRun))));
  }
}

template <std::uint32_t kBits, std::uint32_t kBlock>
inline __m512 levels16(const std::uint8_t* packed, std::uint32_t k) {
  if constexpr (kBits == 1) {
    std::uint16_t positive;
    memcpy(&positive, packed + 2 * k, sizeof positive);
    const __m512 level = _mm512_set1_ps(lloyd_level<1>(0));
    return _mm512_mask_blend_ps(positive, _mm512_set1_ps(-lloyd_level<1>(0)), level);
  } else {
    return _mm512_permutexvar_ps(codes16<kBits, kBlock>(packed, k), _mm512_load_ps(kLevels<kBits>.value));
  }
}

// Strides below 128 of eight registers at a time: load(k) gives values 16·k … of the block.
template <std::uint32_t kBlock, class Load>
inline __attribute__((always_inline)) void near_strides(float* y, Load load) {
  for (std::uint32_t i = 0; i < kBlock / 16; i += 8) {
    __m512 v[8];
#pragma GCC unroll 8
    for (std::uint32_t k = 0; k < 8; ++k) v[k] = load(i + k);
#pragma GCC unroll 8
    for (std::uint32_t k = 0; k < 8; ++k) v[k] = stride1_to_8(v[k]);
    butterflies(v);
#pragma GCC unroll 8
    for (std::uint32_t k = 0; k < 8; ++k) _mm512_store_ps(y + 16 * (i + k), v[k]);
  }
}

// The strides from 128 on: begin(c), then use(k, values 16·k…) for k = c, c + 8, c + 16…; for each c < 8.
template <std::uint32_t kBlock, class Begin, class Use>
inline __attribute__((always_inline)) void far_strides(const float* y, Begin begin, Use use) {
  constexpr std::uint32_t kCount = kBlock / 128;
  for (std::uint32_t c = 0; c < 8; ++c) {
    __m512 v[kCount];
#pragma GCC unroll 8
    for (std::uint32_t k = 0; k < kCount; ++k) v[k] = _mm512_load_ps(y + 16 * c + 128 * k);
    butterflies(v);
    begin(c);
#pragma GCC unroll 8
    for (std::uint32_t k = 0; k < kCount; ++k) use(c + 8 * k, v[k]);
  }
}

template <std::uint32_t kBits, std::uint32_t kBlock>
struct Passes {
  // y ← H·(signs·up·x); returns the sum of squares before H.
  static inline float rotate(const float* x, float up, std::uint32_t seed, float* y) {
    const __m512 by = _mm512_set1_ps(up);
    Signs signs(seed);
    __m512 energy = _mm512_setzero_ps();
    near_strides<kBlock>(y, [&](std::uint32_t k) {
      __builtin_prefetch(x + kBlock + 16 * k);
      signs.draw[k % 2] = _mm512_ror_epi32(signs.draw[k % 2], 1);
      const __m512 value = flipped(_mm512_mul_ps(_mm512_loadu_ps(x + 16 * k), by), signs.draw[k % 2]);
      energy = _mm512_add_ps(energy, _mm512_mul_ps(value, value));
      return value;
    });
    far_strides<kBlock>(y, [](std::uint32_t) {}, [&](std::uint32_t k, __m512 v) { _mm512_store_ps(y + 16 * k, v); });
    return sum_of_lanes(energy);
  }

  // Codes of y·inverse; returns Σ level·y, and Σ level² as `length`.
  static inline float write_codes(const float* y, float inverse, std::uint8_t* packed, float& length) {
    const __m512 by = _mm512_set1_ps(inverse);
    __m512 along = _mm512_setzero_ps(), squares = _mm512_setzero_ps();
    alignas(64) std::uint8_t code[kBlock + 8];
    for (std::uint32_t k = 0; k < kBlock / 16; ++k) {
      const __m512 value = _mm512_load_ps(y + 16 * k), u = _mm512_mul_ps(value, by);
      __m512 level;
      if constexpr (kBits == 1) {
        const __m512 plus = _mm512_set1_ps(lloyd_level<1>(0)), minus = _mm512_set1_ps(-lloyd_level<1>(0));
        const __mmask16 negative = _mm512_cmp_ps_mask(u, _mm512_setzero_ps(), _CMP_LT_OQ);
        const std::uint16_t bits = static_cast<std::uint16_t>(~negative);
        memcpy(packed + 2 * k, &bits, sizeof bits);
        level = _mm512_mask_blend_ps(negative, plus, minus);
      } else {
        const __m512i codes = choose<kBits>(u);
        _mm_store_si128(reinterpret_cast<__m128i*>(code + 16 * k), _mm512_cvtepi32_epi8(codes));
        level = _mm512_permutexvar_ps(codes, _mm512_load_ps(kLevels<kBits>.value));
      }
      along = _mm512_add_ps(along, _mm512_mul_ps(level, value));
      if constexpr (kBits > 1) squares = _mm512_add_ps(squares, _mm512_mul_ps(level, level));
    }
    if constexpr (kBits > 1) pack_codes<kBits>(code, kBlock, packed);
    length = kBits > 1 ? sum_of_lanes(squares) : length_of_one_bit<kBlock>();
    return sum_of_lanes(along);
  }

  // y ← scale·signs·H·(levels of the codes), or y += that.
  template <bool kAdd>
  static inline void decode(const std::uint8_t* packed, std::uint32_t seed, float by, float* y) {
    alignas(64) float value[kBlock];
    near_strides<kBlock>(value, [&](std::uint32_t k) { return levels16<kBits, kBlock>(packed, k); });
    const Signs signs(seed);
    const __m512 scale = _mm512_set1_ps(by), most = _mm512_set1_ps(kMaxFloat), least = _mm512_set1_ps(-kMaxFloat);
    __m512i highest;
    far_strides<kBlock>(
        value,
        [&](std::uint32_t c) { highest = _mm512_ror_epi32(_mm512_rorv_epi32(signs.draw[c % 2], _mm512_set1_epi32(c / 2)), 1); },
        [&](std::uint32_t k, __m512 v) {
          const __m512 scaled = _mm512_mul_ps(flipped(v, highest), scale);
          highest = _mm512_ror_epi32(highest, 4);
          const __m512 capped = _mm512_max_ps(least, _mm512_min_ps(most, scaled));  // the second operand where it is NaN
          _mm512_storeu_ps(y + 16 * k, kAdd ? _mm512_add_ps(_mm512_loadu_ps(y + 16 * k), capped) : capped);
        });
  }
};

template <class C, std::uint32_t kBits>
using Fast = InPasses<C, Passes<kBits, C::kBlock>>;

}  // namespace rotated
}  // namespace
}  // namespace scrimp
