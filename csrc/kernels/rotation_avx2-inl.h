#pragma once
// The rotation codecs' full blocks in AVX2: registers of eight values, so a block of 1024 takes its strides below 64 in one
// pass and the others in a second. Included by fast_blocks-inl.h alone.
#include <immintrin.h>

#include "kernels/rotation-inl.h"

namespace scrimp {
namespace {
namespace rotated {

// v·(±1) is exact, so the fused operation rounds once, as the sum does; it leaves the adders to the larger strides.
inline __m256 stride1_to_4(__m256 v) {
  const __m256 s1 = _mm256_setr_ps(1, -1, 1, -1, 1, -1, 1, -1);
  const __m256 s2 = _mm256_setr_ps(1, 1, -1, -1, 1, 1, -1, -1);
  const __m256 s4 = _mm256_setr_ps(1, 1, 1, 1, -1, -1, -1, -1);
  v = _mm256_fmadd_ps(v, s1, _mm256_permute_ps(v, 0b10110001));
  v = _mm256_fmadd_ps(v, s2, _mm256_permute_ps(v, 0b01001110));
  return _mm256_fmadd_ps(v, s4, _mm256_permute2f128_ps(v, v, 1));
}

// The strides between kCount registers.
template <std::uint32_t kCount>
inline __attribute__((always_inline)) void butterflies(__m256 (&v)[kCount]) {
#pragma GCC unroll 3
  for (std::uint32_t h = 1; h < kCount; h *= 2)
#pragma GCC unroll 8
    for (std::uint32_t k = 0; k < kCount; ++k) {
      if (k & h) continue;
      const __m256 low = v[k], high = v[k + h];
      v[k] = _mm256_add_ps(low, high);
      v[k + h] = _mm256_sub_ps(low, high);
    }
}

// The draws of flip_signs: value 8·k + i takes bit k / 4 of lane i of draw k % 4.
struct Signs {
  __m256i draw[4];

  explicit Signs(std::uint32_t seed) {
    const std::uint64_t key = mix64(seed);
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    for (int k = 0; k < 4; ++k) {  // random32 of eight counters
      __m256i h = _mm256_xor_si256(_mm256_add_epi32(lane, _mm256_set1_epi32(8 * k)), _mm256_set1_epi32(static_cast<int>(key)));
      h = _mm256_xor_si256(h, _mm256_srli_epi32(h, 16));
      h = _mm256_mullo_epi32(h, _mm256_set1_epi32(static_cast<int>(0x85ebca6bu)));
      h = _mm256_xor_si256(h, _mm256_srli_epi32(h, 13));
      h = _mm256_add_epi32(h, _mm256_set1_epi32(static_cast<int>(key >> 32)));
      h = _mm256_mullo_epi32(h, _mm256_set1_epi32(static_cast<int>(0xc2b2ae35u)));
      draw[k] = _mm256_xor_si256(h, _mm256_srli_epi32(h, 16));
    }
  }
};

// x with the signs that lie in the lowest bits.
inline __m256 flipped(__m256 x, __m256i lowest) { return _mm256_xor_ps(x, _mm256_castsi256_ps(_mm256_slli_epi32(lowest, 31))); }

// The sixteen lanes of lane_sum: values 16·i … 16·i + 7 in the first register.
struct LaneSum {
  __m256 lane[2] = {_mm256_setzero_ps(), _mm256_setzero_ps()};

  inline void add(std::uint32_t k, __m256 term) { lane[k % 2] = _mm256_add_ps(lane[k % 2], term); }

  inline float sum() const {
    const __m256 eight = _mm256_add_ps(lane[0], lane[1]);
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
  }
};

// Strides below 64 of eight registers at a time: load(k, v) gives values 8·k … 8·k + 63 of the block.
template <std::uint32_t kBlock, class Load>
inline __attribute__((always_inline)) void near_strides(float* y, Load load) {
  for (std::uint32_t i = 0; i < kBlock / 8; i += 8) {
    __m256 v[8];
    load(i, v);
#pragma GCC unroll 8
    for (std::uint32_t k = 0; k < 8; ++k) v[k] = stride1_to_4(v[k]);
    butterflies(v);
#pragma GCC unroll 8
    for (std::uint32_t k = 0; k < 8; ++k) _mm256_store_ps(y + 8 * (i + k), v[k]);
  }
}

// The strides from 64 on: begin(first), then use(k, values 8·k…) for k = first and some that lie 64 values apart. Sixteen
// registers are all there are: stride 64 is done twice instead, once for its sums and once for its differences, which do
// not meet again.
template <std::uint32_t kBlock, class Begin, class Use>
inline __attribute__((always_inline)) void far_strides(const float* y, Begin begin, Use use) {
  constexpr std::uint32_t kCount = kBlock / 128;
  for (std::uint32_t c = 0; c < 8; ++c)
#pragma GCC unroll 2
    for (std::uint32_t half = 0; half < 2; ++half) {
      __m256 v[kCount];
#pragma GCC unroll 8
      for (std::uint32_t k = 0; k < kCount; ++k) {
        const __m256 low = _mm256_load_ps(y + 8 * c + 128 * k), high = _mm256_load_ps(y + 8 * c + 128 * k + 64);
        v[k] = half ? _mm256_sub_ps(low, high) : _mm256_add_ps(low, high);
      }
      butterflies(v);
      begin(c + 8 * half);
#pragma GCC unroll 8
      for (std::uint32_t k = 0; k < kCount; ++k) use(c + 8 * half + 16 * k, v[k]);
    }
}

// The level of a magnitude's index in 0…2^(kBits-1)-1.
template <std::uint32_t kBits>
inline __m256 level_of(__m256i k) {
  if constexpr (kBits == 4) return _mm256_permutevar8x32_ps(_mm256_load_ps(kLevels<4>.value + 8), k);
  const float* positive = kLevels<kBits>.value + (1u << (kBits - 1));
  return _mm256_permutevar_ps(_mm256_broadcast_ps(reinterpret_cast<const __m128*>(positive)), k);
}

// Four limits, for indices 0…3 in each half of a register.
template <std::uint32_t kBits>
inline __m256 limits(std::uint32_t t0, std::uint32_t t1, std::uint32_t t2, std::uint32_t t3) {
  const float a = lloyd_limit<kBits>(t0), b = lloyd_limit<kBits>(t1), c = lloyd_limit<kBits>(t2), d = lloyd_limit<kBits>(t3);
  return _mm256_setr_ps(a, b, c, d, a, b, c, d);
}

// -1 where a magnitude is above its limit.
inline __m256i above(__m256 magnitude, __m256 limit) {
  return _mm256_castps_si256(_mm256_cmp_ps(magnitude, limit, _CMP_GT_OQ));
}

// Number of the limits below each magnitude, by bisection. An outcome of -1 selects the last of four limits.
template <std::uint32_t kBits>
inline __m256i magnitude_index(__m256 magnitude) {
  constexpr std::uint32_t kMiddle = (1u << (kBits - 2)) - 1;
  const __m256i upper = above(magnitude, _mm256_set1_ps(lloyd_limit<kBits>(kMiddle)));
  if constexpr (kBits == 2) return _mm256_srli_epi32(upper, 31);
  const __m256i two = _mm256_set1_epi32(2);
  if constexpr (kBits == 3) {
    const __m256i next = above(magnitude, _mm256_permutevar_ps(limits<3>(0, 0, 0, 2), upper));
    return _mm256_sub_epi32(_mm256_and_si256(upper, two), next);
  } else {
    const __m256i next = above(magnitude, _mm256_permutevar_ps(limits<4>(1, 1, 1, 5), upper));
    const __m256i quarter = _mm256_sub_epi32(_mm256_and_si256(upper, two), next);
    const __m256i last = above(magnitude, _mm256_permutevar_ps(limits<4>(0, 2, 4, 6), quarter));
    return _mm256_sub_epi32(_mm256_add_epi32(quarter, quarter), last);
  }
}

// Bytes of four registers' lanes.
inline __m256i bytes_of(__m256i a, __m256i b, __m256i c, __m256i d) {
  const __m256i fours = _mm256_packs_epi16(_mm256_packs_epi32(a, b), _mm256_packs_epi32(c, d));
  return _mm256_permutevar8x32_epi32(fours, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
}

// 32 bytes: `one` where the bit is set.
inline __m256i spread_bits(const std::uint8_t* bits, char one) {
  int word;
  memcpy(&word, bits, sizeof word);
  const __m256i source = _mm256_setr_epi64x(0, 0x0101010101010101, 0x0202020202020202, 0x0303030303030303);
  const __m256i bit = _mm256_set1_epi64x(static_cast<long long>(0x8040201008040201ull));
  const __m256i mine = _mm256_and_si256(_mm256_shuffle_epi8(_mm256_set1_epi32(word), source), bit);
  return _mm256_and_si256(_mm256_cmpeq_epi8(mine, bit), _mm256_set1_epi8(one));
}

// Codes 32·k … 32·k + 31 of a packed block.
template <std::uint32_t kBits, std::uint32_t kBlock>
inline __m256i codes32(const std::uint8_t* packed, std::uint32_t k) {
  if constexpr (kBits == 3) {
    const __m256i high = spread_bits(packed + packed_nbytes<2>(kBlock) + 4 * k, 4);
    return _mm256_or_si256(codes32<2, kBlock>(packed, k), high);
  } else {
    constexpr std::uint32_t kRun = packed_nbytes<kBits>(kBlock) / 32;
    const __m256i bytes = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(packed + 32 * (k % kRun)));
    const __m256i shifted = _mm256_srl_epi16(bytes, _mm_cvtsi32_si128(static_cast<int>(kBits * (k / kRun))));
    return _mm256_and_si256(shifted, _mm256_set1_epi8((1 << kBits) - 1));
  }
}

// The bytes of the levels, all first ones, all second ones…
template <std::uint32_t kBits>
struct LevelBytes {
  alignas(32) std::uint8_t plane[4][32];
  constexpr LevelBytes() : plane{} {
    for (std::uint32_t p = 0; p < 4; ++p)
      for (std::uint32_t c = 0; c < 32; ++c)
        plane[p][c] = static_cast<std::uint8_t>(__builtin_bit_cast(std::uint32_t, kLevels<kBits>.value[c % 16]) >> (8 * p));
  }
};

template <std::uint32_t kBits>
constexpr LevelBytes<kBits> kLevelBytes;

// The levels of codes 32·k…: a shuffle looks up sixteen bytes, and four of them make a level.
template <std::uint32_t kBits, std::uint32_t kBlock>
inline __attribute__((always_inline)) void levels32(const std::uint8_t* packed, std::uint32_t k, __m256* v) {
  if constexpr (kBits == 1) {
    int positive;
    memcpy(&positive, packed + 4 * k, sizeof positive);
    const __m256i bits = _mm256_xor_si256(_mm256_set1_epi32(positive), _mm256_set1_epi32(-1));
    const __m256i sign = _mm256_set1_epi32(static_cast<int>(0x80000000u));
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) {
      const __m256i shift = _mm256_sub_epi32(_mm256_set1_epi32(31 - 8 * j), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
      const __m256i negative = _mm256_and_si256(_mm256_sllv_epi32(bits, shift), sign);
      v[j] = _mm256_or_ps(_mm256_castsi256_ps(negative), _mm256_set1_ps(lloyd_level<1>(0)));
    }
  } else {
    const __m256i order = _mm256_setr_epi32(0, 2, 4, 6, 1, 3, 5, 7);
    const __m256i code = _mm256_permutevar8x32_epi32(codes32<kBits, kBlock>(packed, k), order);
    __m256i byte[4];
#pragma GCC unroll 4
    for (int p = 0; p < 4; ++p)
      byte[p] = _mm256_shuffle_epi8(_mm256_load_si256(reinterpret_cast<const __m256i*>(kLevelBytes<kBits>.plane[p])), code);
    const __m256i low01 = _mm256_unpacklo_epi8(byte[0], byte[1]), high01 = _mm256_unpackhi_epi8(byte[0], byte[1]);
    const __m256i low23 = _mm256_unpacklo_epi8(byte[2], byte[3]), high23 = _mm256_unpackhi_epi8(byte[2], byte[3]);
    v[0] = _mm256_castsi256_ps(_mm256_unpacklo_epi16(low01, low23));
    v[1] = _mm256_castsi256_ps(_mm256_unpackhi_epi16(low01, low23));
    v[2] = _mm256_castsi256_ps(_mm256_unpacklo_epi16(high01, high23));
    v[3] = _mm256_castsi256_ps(_mm256_unpackhi_epi16(high01, high23));
  }
}

template <std::uint32_t kBits, std::uint32_t kBlock>
struct Passes {
  // y ← H·(signs·up·x); returns the sum of squares before H.
  static inline float rotate(const float* x, float up, std::uint32_t seed, float* y) {
    const __m256 by = _mm256_set1_ps(up);
    Signs signs(seed);
    LaneSum energy;
    alignas(32) float near[kBlock];
    near_strides<kBlock>(near, [&](std::uint32_t first, __m256* v) {
#pragma GCC unroll 8
      for (std::uint32_t k = 0; k < 8; ++k) {
        if (k % 2 == 0) __builtin_prefetch(x + kBlock + 8 * (first + k));
        __m256i& draw = signs.draw[k % 4];
        v[k] = flipped(_mm256_mul_ps(_mm256_loadu_ps(x + 8 * (first + k)), by), draw);
        draw = _mm256_srli_epi32(draw, 1);
        energy.add(k, _mm256_mul_ps(v[k], v[k]));
      }
    });
    far_strides<kBlock>(near, [](std::uint32_t) {}, [&](std::uint32_t k, __m256 v) { _mm256_store_ps(y + 8 * k, v); });
    return energy.sum();
  }

  // Codes of y·inverse; returns Σ level·y, and Σ level² as `length`.
  static inline float write_codes(const float* y, float inverse, std::uint8_t* packed, float& length) {
    constexpr std::uint32_t kHalf = 1u << (kBits - 1);
    const __m256 by = _mm256_set1_ps(inverse), sign = _mm256_set1_ps(-0.0f);
    LaneSum along, squares;
    alignas(32) std::uint8_t code[kBlock + 8];
    for (std::uint32_t i = 0; i < kBlock; i += 32) {
      __m256i chosen[4];
#pragma GCC unroll 4
      for (std::uint32_t j = 0; j < 4; ++j) {
        const __m256 value = _mm256_load_ps(y + i + 8 * j), u = _mm256_mul_ps(value, by);
        const __m256 negative = _mm256_cmp_ps(u, _mm256_setzero_ps(), _CMP_LT_OQ);
        __m256 level = _mm256_set1_ps(lloyd_level<1>(0));
        if constexpr (kBits == 1) {
          packed[i / 8 + j] = static_cast<std::uint8_t>(~_mm256_movemask_ps(negative));
        } else {
          const __m256i k = magnitude_index<kBits>(_mm256_andnot_ps(sign, u));
          chosen[j] = _mm256_xor_si256(k, _mm256_castps_si256(negative));  // -1 - k where negative
          level = level_of<kBits>(k);
        }
        level = _mm256_or_ps(level, _mm256_and_ps(negative, sign));
        along.add(j, _mm256_mul_ps(level, value));
        if constexpr (kBits > 1) squares.add(j, _mm256_mul_ps(level, level));
      }
      if constexpr (kBits > 1) {
        const __m256i bytes = bytes_of(chosen[0], chosen[1], chosen[2], chosen[3]);
        __m256i codes = _mm256_add_epi8(bytes, _mm256_set1_epi8(kHalf));
        if constexpr (kBits == 3) {
          const int high = _mm256_movemask_epi8(_mm256_slli_epi16(codes, 5));
          memcpy(packed + packed_nbytes<2>(kBlock) + i / 8, &high, sizeof high);
          codes = _mm256_and_si256(codes, _mm256_set1_epi8(3));
        }
        _mm256_store_si256(reinterpret_cast<__m256i*>(code + i), codes);
      }
    }
    if constexpr (kBits > 1) pack_codes<kBits == 3 ? 2 : kBits>(code, kBlock, packed);
    length = kBits > 1 ? squares.sum() : length_of_one_bit<kBlock>();
    return along.sum();
  }

  // y ← scale·signs·H·(levels of the codes), or y += that.
  template <bool kAdd>
  static inline void decode(const std::uint8_t* packed, std::uint32_t seed, float by, float* y) {
    alignas(32) float value[kBlock];
    near_strides<kBlock>(value, [&](std::uint32_t first, __m256* v) {
      levels32<kBits, kBlock>(packed, first / 4, v);
      levels32<kBits, kBlock>(packed, first / 4 + 1, v + 4);
    });
    const Signs signs(seed);
    const __m256 scale = _mm256_set1_ps(by), most = _mm256_set1_ps(kMaxFloat), least = _mm256_set1_ps(-kMaxFloat);
    __m256i lowest;
    far_strides<kBlock>(
        value,
        [&](std::uint32_t first) {
          lowest = _mm256_srl_epi32(signs.draw[first % 4], _mm_cvtsi32_si128(static_cast<int>(first / 4)));
        },
        [&](std::uint32_t k, __m256 v) {
          const __m256 scaled = _mm256_mul_ps(flipped(v, lowest), scale);
          lowest = _mm256_srli_epi32(lowest, 4);
          const __m256 capped = _mm256_max_ps(least, _mm256_min_ps(most, scaled));  // the second operand where it is NaN
          _mm256_storeu_ps(y + 8 * k, kAdd ? _mm256_add_ps(_mm256_loadu_ps(y + 8 * k), capped) : capped);
        });
  }
};

template <class C, std::uint32_t kBits>
using Fast = InPasses<C, Passes<kBits, C::kBlock>>;

}  // namespace rotated
}  // namespace
}  // namespace scrimp
