#pragma once
// The leaves of leaf-inl.h in AVX-512 (F, BW, DQ, VL; VBMI where it is on). Each function equals its namesake in `plain`
// bit for bit; included by leaf-inl.h alone.
#include <immintrin.h>

namespace scrimp {
namespace {
namespace avx512 {

using plain::from_e4m3, plain::from_e5m2, plain::from_halves, plain::kCasts, plain::scaled_e4m3_32, plain::to_bfloats;

// Byte kByte of each of 32 integers, whose bytes above it are its sign.
template <int kByte>
inline __m256i byte_of_each(__m512i a, __m512i b) {
#ifdef __AVX512VBMI__
  alignas(64) static constexpr std::uint8_t kPick[64] = {0,  4,  8,  12, 16, 20, 24, 28, 32, 36, 40,  44,  48,  52,  56,  60,
                                                         64, 68, 72, 76, 80, 84, 88, 92, 96, 100, 104, 108, 112, 116, 120, 124};
  const __m512i pick = _mm512_add_epi8(_mm512_load_si512(kPick), _mm512_set1_epi8(kByte));
  return _mm512_castsi512_si256(_mm512_permutex2var_epi8(a, pick, b));
#else
  const __m512i words = _mm512_packs_epi32(_mm512_srai_epi32(a, 8 * kByte), _mm512_srai_epi32(b, 8 * kByte));
  return _mm256_permutevar8x32_epi32(_mm512_cvtepi16_epi8(words), _mm256_setr_epi32(0, 2, 4, 6, 1, 3, 5, 7));
#endif
}

inline __m512i scaled(const float* x, __m512 by) { return _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(x), by)); }

inline void codes32(const float* x, float inverse, std::int8_t* codes) {
  const __m512 by = _mm512_set1_ps(inverse);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(codes), byte_of_each<0>(scaled(x, by), scaled(x + 16, by)));
}

struct Draws {
  __m512i lane, upper_key;

  Draws(std::uint64_t key, std::uint32_t start) : upper_key(_mm512_set1_epi32(static_cast<int>(key >> 32))) {
    const __m512i lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    const __m512i low = _mm512_xor_si512(_mm512_set1_epi32(static_cast<int>(start & 15)), lanes);
    lane = _mm512_mullo_epi32(low, _mm512_set1_epi32(static_cast<int>(kFirstFactor)));
  }
  // Of 16 counters, but the last xor.
  __m512i operator()(std::uint32_t product) const {
    __m512i h = _mm512_add_epi32(_mm512_set1_epi32(static_cast<int>(product)), lane);
    h = _mm512_add_epi32(_mm512_xor_si512(h, _mm512_srli_epi32(h, 13)), upper_key);
    return _mm512_mullo_epi32(h, _mm512_set1_epi32(static_cast<int>(kLastFactor)));
  }
};

// Products beyond ±top are pulled back to it: the smaller magnitude with the sign of the first operand.
inline __m512i scaled_within(const float* x, __m512 by, __m512 top) {
  return _mm512_cvtps_epi32(_mm512_range_ps(_mm512_mul_ps(_mm512_loadu_ps(x), by), top, 0x2));
}

inline void codes32_clamped(const float* x, float inverse, float top, std::int8_t* codes) {
  const __m512 by = _mm512_set1_ps(inverse), most = _mm512_set1_ps(top);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(codes), byte_of_each<0>(scaled_within(x, by, most), scaled_within(x + 16, by, most)));
}

inline __m512i rounded_away(const float* x, __m512 by) {
  const __m512i half = _mm512_set1_epi32(0x3effffff), sign = _mm512_set1_epi32(static_cast<int>(0x80000000u));
  const __m512 scaled = _mm512_mul_ps(_mm512_loadu_ps(x), by);
  const __m512i toward = _mm512_ternarylogic_epi32(_mm512_castps_si512(scaled), sign, half, 0xea);  // scaled & sign | half
  return _mm512_cvttps_epi32(_mm512_add_ps(scaled, _mm512_castsi512_ps(toward)));
}

inline void codes32_away(const float* x, float inverse, std::int8_t* codes) {
  const __m512 by = _mm512_set1_ps(inverse);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(codes), byte_of_each<0>(rounded_away(x, by), rounded_away(x + 16, by)));
}

inline std::uint32_t first_of_magnitude32(const float* x, std::uint32_t bits) {
  const __m512 wanted = _mm512_castsi512_ps(_mm512_set1_epi32(static_cast<int>(bits)));
  const __mmask16 low = _mm512_cmp_ps_mask(_mm512_abs_ps(_mm512_loadu_ps(x)), wanted, _CMP_EQ_OQ);
  const __mmask16 high = _mm512_cmp_ps_mask(_mm512_abs_ps(_mm512_loadu_ps(x + 16)), wanted, _CMP_EQ_OQ);
  const __mmask32 both = _mm512_kunpackw(high, low);  // not shifts: GCC 12 spills 16 bits of a mask and may load 32
  return static_cast<std::uint32_t>(__builtin_ctz(both | 0x80000000u));
}

inline __m512i from_eight(const float* x, __m512 by) {
  const __m512 shifted = _mm512_add_ps(_mm512_mul_ps(_mm512_loadu_ps(x), by), _mm512_set1_ps(8.5f));
  return _mm512_min_epi32(_mm512_cvttps_epi32(shifted), _mm512_set1_epi32(15));
}

inline void pairs32_from_eight(const float* x, float inverse, std::uint8_t* pair) {
  const __m512 by = _mm512_set1_ps(inverse);
  const __m512i both = _mm512_or_si512(from_eight(x, by), _mm512_slli_epi32(from_eight(x + 16, by), 4));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(pair), _mm512_cvtepi32_epi8(both));
}

// The numbers of -1…1 by cells, cell 16 + round(15.25·value), of which none holds two limits. Entry k: the limit in cell k, or
// infinity, and how many limits lie below the cell.
template <class Levels>
struct Cells {
  static constexpr float kPerOne = 15.25f;
  alignas(64) float limit[32];
  alignas(64) std::int32_t below[32];
  alignas(64) std::uint8_t code[64];  // of the values of cell k that are not above its limit, and in entry 32 + k of those that are
  bool parted;  // no cell has two limits

  constexpr Cells() : limit{}, below{}, code{}, parted(true) {
    for (int k = 0; k < 32; ++k) {
      int limits = 0;
      limit[k] = __builtin_inff();
      for (int i = 0; i < 15; ++i) {
        const double past = 16.0 + Levels::kLimits.value[i] * static_cast<double>(kPerOne) - k;  // of the cell's middle; exact
        below[k] += past < -0.5;
        if (past < -0.5 || past > 0.5) continue;
        limit[k] = Levels::kLimits.value[i];
        ++limits;
      }
      parted &= limits <= 1;
      code[k] = static_cast<std::uint8_t>(below[k]);
      code[32 + k] = static_cast<std::uint8_t>(below[k] + 1);
    }
  }
};
template <class Levels>
constexpr Cells<Levels> kCells;

// The values lie within -1…1. A fused product chooses the cell: rounded once, the cells' ends are where they are said to be.
template <class Levels>
inline void levels32(const float* x, float inverse, std::uint8_t* codes) {
  constexpr const Cells<Levels>& table = kCells<Levels>;
  static_assert(table.parted);
  const __m512 by = _mm512_set1_ps(inverse), a = _mm512_mul_ps(_mm512_loadu_ps(x), by), b = _mm512_mul_ps(_mm512_loadu_ps(x + 16), by);
  const __m512 low = _mm512_load_ps(table.limit), high = _mm512_load_ps(table.limit + 16);
  const auto cell = [](__m512 value) {  // in the lowest five bits
    return _mm512_castps_si512(_mm512_fmadd_ps(value, _mm512_set1_ps(table.kPerOne), _mm512_set1_ps(0x1.8p23f + 16)));
  };
  const auto above = [&](__m512 value, __m512i at) { return _mm512_cmp_ps_mask(value, _mm512_permutex2var_ps(low, at, high), _CMP_GT_OQ); };
#ifdef __AVX512VBMI__
  const auto entry = [&](__m512 value) {
    const __m512i at = cell(value);
    return _mm512_mask_or_epi32(at, above(value, at), at, _mm512_set1_epi32(32));
  };
  const auto* code = reinterpret_cast<const __m256i*>(table.code);
  const __m256i level = _mm256_permutex2var_epi8(_mm256_load_si256(code), byte_of_each<0>(entry(a), entry(b)), _mm256_load_si256(code + 1));
#else
  const __m512i first = _mm512_load_si512(table.below), last = _mm512_load_si512(table.below + 16);
  const auto entry = [&](__m512 value) {
    const __m512i at = cell(value), below = _mm512_permutex2var_epi32(first, at, last);
    return _mm512_mask_add_epi32(below, above(value, at), below, _mm512_set1_epi32(1));
  };
  const __m256i level = byte_of_each<0>(entry(a), entry(b));
#endif
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(codes), level);
}

// Of 16 magnitudes, the codes of the small float in byte 1. To a magnitude a number is added whose last place is worth the
// small float's last place there, so the sum is rounded where it should be: its lower half holds the significand with its
// leading one, its upper half the exponent. The small float's exponent bias is in the number, too, as an even amount of last
// places, which are taken as negative.
template <class Format>
inline __m512i minifloats_in_byte_1(__m512 magnitude) {
  constexpr int kMantissa = 23 - Format::kShift, kBias = (Format::kRebias + 1 + Format::kShift) << kMantissa;
  const __m512i least = _mm512_set1_epi32((Format::kRebias + 1) << 23);
  const __m512i power = _mm512_max_epi32(_mm512_and_si512(_mm512_castps_si512(magnitude), _mm512_set1_epi32(kInfBits)), least);
  const __m512 places = _mm512_set1_ps(bits_float(((127 + Format::kShift) << 23) + 65536 - kBias));
  const __m512 sum = _mm512_fmadd_ps(_mm512_castsi512_ps(power), places, magnitude);
  return _mm512_madd_epi16(_mm512_castps_si512(sum), _mm512_set1_epi32((2 << (16 + kMantissa)) | 256));
}

// 32 small floats, signs at bit kSignBit, of values clamped to ±largest.
template <class Format, std::uint32_t kSignBit>
inline __m256i minifloats(__m512 a, __m512 b, float largest) {
  const __m512 top = _mm512_set1_ps(largest);
  const auto each = [&](__m512 value) { return minifloats_in_byte_1<Format>(_mm512_range_ps(value, top, 0xa)); };
  const __m256i codes = byte_of_each<1>(each(a), each(b));
  const __m256i signs = _mm256_srli_epi16(byte_of_each<3>(_mm512_castps_si512(a), _mm512_castps_si512(b)), 7 - kSignBit);
  return _mm256_ternarylogic_epi32(signs, _mm256_set1_epi8(static_cast<char>(1 << kSignBit)), codes, 0xea);  // sign & bit | code
}

template <class Format, std::uint32_t kSignBit>
inline void minifloats32(const float* x, float inverse, float largest, std::uint8_t* codes) {
  const __m512 by = _mm512_set1_ps(inverse);
  const __m512 a = _mm512_mul_ps(_mm512_loadu_ps(x), by), b = _mm512_mul_ps(_mm512_loadu_ps(x + 16), by);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(codes), minifloats<Format, kSignBit>(a, b, largest));
}

inline __mmask16 nan_among(__m512 a, __m512 b) { return _mm512_cmp_ps_mask(a, b, _CMP_UNORD_Q); }

template <class Format>
__attribute__((noinline, cold)) void again_to_eights(const float* x, std::size_t n, float largest, std::uint8_t* codes) {
  for (std::size_t i = 0; i < n; i += 32)
    if (nan_among(_mm512_loadu_ps(x + i), _mm512_loadu_ps(x + i + 16))) plain::to_eights<Format>(x + i, 32, largest, codes + i);
}

template <class Format>
inline void to_eights(const float* x, std::size_t n, float largest, std::uint8_t* codes) {
  __mmask16 nan = 0;
  for (std::size_t i = 0; i < n; i += 32) {
    __m512 a = _mm512_loadu_ps(x + i), b = _mm512_loadu_ps(x + i + 16);
    asm("" : "+v"(a), "+v"(b));  // keeps them: GCC 12 would load them three times, 41 GB/s instead of 53 on Zen 4
    nan |= nan_among(a, b);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(codes + i), minifloats<Format, 7>(a, b, largest));
  }
  if (__builtin_expect(nan, 0)) again_to_eights<Format>(x, n, largest, codes);
}

inline void join_neighbours32(const std::uint8_t* codes, std::uint8_t* pair) {
  const __m256i both = _mm256_maddubs_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(codes)), _mm256_set1_epi16(0x0110));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(pair), _mm256_cvtepi16_epi8(both));
}

inline void join_halves32(const std::uint8_t* codes, std::uint8_t* pair) {
  const __m128i low = _mm_loadu_si128(reinterpret_cast<const __m128i*>(codes));
  const __m128i high = _mm_loadu_si128(reinterpret_cast<const __m128i*>(codes + 16));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(pair), _mm_or_si128(low, _mm_slli_epi16(high, 4)));
}

// The conversion of the hardware, but NaN as `plain` has it.
inline void to_halves16(const float* x, std::uint8_t* halves) {
  const __m512 value = _mm512_loadu_ps(x);
  if (__builtin_expect(_mm512_cmp_ps_mask(value, value, _CMP_UNORD_Q) != 0, 0)) return plain::to_halves16(x, halves);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(halves), _mm512_cvtps_ph(value, _MM_FROUND_TO_NEAREST_INT));
}

inline void to_halves(const float* x, std::size_t n, std::uint8_t* halves) {
  for (std::size_t i = 0; i < n; i += 16) to_halves16(x + i, halves + 2 * i);
}

template <bool kClamp>
inline void codes32_stochastic(const float* x, float inverse, float top, const Draws& draws, std::uint32_t product,
                               std::int8_t* codes) {
  const __m512 by = _mm512_set1_ps(inverse), most = _mm512_set1_ps(top);
  const auto fixed = [&](int i) { return kClamp ? scaled_within(x + i, by, most) : scaled(x + i, by); };
  const __m512i h = draws(product), high = _mm512_srli_epi32(h, 16);
  const __m512i low = _mm512_ternarylogic_epi32(h, high, _mm512_set1_epi32(0xffff), 0x28);  // (h ^ high) & mask
  const __m256i bytes = byte_of_each<2>(_mm512_add_epi32(fixed(0), low), _mm512_add_epi32(fixed(16), high));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(codes), bytes);
}

inline void join_nibbles32(const std::int8_t* low, const std::int8_t* high, std::uint8_t* pair) {
  const __m256i a = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(low));
  const __m256i b = _mm256_slli_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(high)), 4);
  const __m256i nibbles = _mm256_ternarylogic_epi32(a, b, _mm256_set1_epi8(15), 0xe4);  // mask ? a : b
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(pair), _mm256_xor_si256(nibbles, _mm256_set1_epi8(static_cast<char>(0x88))));
}

inline __m512 magnitude(const float* x) { return _mm512_abs_ps(_mm512_loadu_ps(x)); }

struct Max {
  static __m512 of(__m512 a, __m512 b) {
    return _mm512_castsi512_ps(_mm512_max_epu32(_mm512_castps_si512(a), _mm512_castps_si512(b)));
  }
};

struct Sum {
  static __m512 of(__m512 a, __m512 b) { return _mm512_add_ps(a, b); }
};

template <class Op, std::uint32_t kBlock>
inline __m512 fold_block(const float* x) {
  __m512 folded = magnitude(x);
  for (std::uint32_t i = 16; i < kBlock; i += 16) folded = Op::of(folded, magnitude(x + i));
  return folded;
}

// Of four blocks: 128-bit lane b holds four partial results of block b.
template <class Op, std::uint32_t kBlock>
inline __m512 fold_4(const float* x) {
  const __m512 a = fold_block<Op, kBlock>(x), b = fold_block<Op, kBlock>(x + kBlock);
  const __m512 ab = Op::of(_mm512_shuffle_f32x4(a, b, 0x44), _mm512_shuffle_f32x4(a, b, 0xee));
  const __m512 c = fold_block<Op, kBlock>(x + 2 * kBlock), d = fold_block<Op, kBlock>(x + 3 * kBlock);
  const __m512 cd = Op::of(_mm512_shuffle_f32x4(c, d, 0x44), _mm512_shuffle_f32x4(c, d, 0xee));
  return Op::of(_mm512_shuffle_f32x4(ab, cd, 0x88), _mm512_shuffle_f32x4(ab, cd, 0xdd));
}

// Of eight blocks: lane b holds two partial results of block b, then two of block b + 4.
template <class Op, std::uint32_t kBlock>
inline __m512 fold_8(const float* x) {
  const __m512d p = _mm512_castps_pd(fold_4<Op, kBlock>(x)), q = _mm512_castps_pd(fold_4<Op, kBlock>(x + 4 * kBlock));
  return Op::of(_mm512_castpd_ps(_mm512_unpacklo_pd(p, q)), _mm512_castpd_ps(_mm512_unpackhi_pd(p, q)));
}

// Of 16 vectors, each the 16 partial results of one block, the results. fold_16 does the same on the way.
template <class Op>
inline __m512 fold_vectors(const __m512* v) {
  __m512 four[4], two[2];
  for (int k = 0; k < 4; ++k) {
    const __m512 *u = v + 4 * k;
    const __m512 ab = Op::of(_mm512_shuffle_f32x4(u[0], u[1], 0x44), _mm512_shuffle_f32x4(u[0], u[1], 0xee));
    const __m512 cd = Op::of(_mm512_shuffle_f32x4(u[2], u[3], 0x44), _mm512_shuffle_f32x4(u[2], u[3], 0xee));
    four[k] = Op::of(_mm512_shuffle_f32x4(ab, cd, 0x88), _mm512_shuffle_f32x4(ab, cd, 0xdd));
  }
  for (int k = 0; k < 2; ++k) {
    const __m512d p = _mm512_castps_pd(four[2 * k]), q = _mm512_castps_pd(four[2 * k + 1]);
    two[k] = Op::of(_mm512_castpd_ps(_mm512_unpacklo_pd(p, q)), _mm512_castpd_ps(_mm512_unpackhi_pd(p, q)));
  }
  const __m512i sorted = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  const __m512 folded = Op::of(_mm512_shuffle_ps(two[0], two[1], 0x88), _mm512_shuffle_ps(two[0], two[1], 0xdd));
  return _mm512_permutexvar_ps(sorted, folded);
}

// A tree of shuffles finishes the 16 reductions together, three instructions a pair, in the order of lane_sum: element j
// meets j + 8, then j + 4, j + 2, j + 1.
template <class Op, std::uint32_t kBlock>
inline __m512 fold_16(const float* x) {
  const __m512 r = fold_8<Op, kBlock>(x), s = fold_8<Op, kBlock>(x + 8 * kBlock);
  const __m512i sorted = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  return _mm512_permutexvar_ps(sorted, Op::of(_mm512_shuffle_ps(r, s, 0x88), _mm512_shuffle_ps(r, s, 0xdd)));
}

template <std::uint32_t kBlock>
inline void absmax_of_blocks(const float* x, std::uint32_t* top) {
  _mm512_storeu_ps(top, fold_16<Max, kBlock>(x));
}

template <std::uint32_t kBlock>
inline void abs_sum_of_blocks(const float* x, float* sum) {
  _mm512_storeu_ps(sum, fold_16<Sum, kBlock>(x));
}

inline bool scale_blocks(const std::uint32_t* top, float levels, float unit, float least, float most, float* scale,
                         float* inverse) {
  const __m512 absmax = _mm512_loadu_ps(top), infinity = _mm512_castsi512_ps(_mm512_set1_epi32(kInfBits));
  const __m512 each = _mm512_div_ps(absmax, _mm512_set1_ps(levels));
  const __mmask16 zero = _mm512_cmp_ps_mask(absmax, _mm512_setzero_ps(), _CMP_EQ_OQ);
  const __m512 divisor = _mm512_mask_mov_ps(each, zero, infinity);
  _mm512_storeu_ps(scale, each);
  _mm512_storeu_ps(inverse, _mm512_mul_ps(_mm512_div_ps(_mm512_set1_ps(1.0f), divisor), _mm512_set1_ps(unit)));
  const __mmask16 above = _mm512_cmp_ps_mask(absmax, _mm512_set1_ps(least), _CMP_GE_OQ);
  return static_cast<__mmask16>(zero | (above & _mm512_cmp_ps_mask(absmax, _mm512_set1_ps(most), _CMP_LE_OQ))) == 0xffff;
}

inline void negative_bits32(const float* x, std::uint8_t* bits) {
  const __m512 zero = _mm512_setzero_ps();
  const __mmask16 low = _mm512_cmp_ps_mask(_mm512_loadu_ps(x), zero, _CMP_LT_OQ);
  const __mmask16 high = _mm512_cmp_ps_mask(_mm512_loadu_ps(x + 16), zero, _CMP_LT_OQ);
  const std::uint32_t word = _mm512_kunpackw(high, low);
  memcpy(bits, &word, sizeof word);
}

inline void signed32(const std::uint8_t* bits, float scale, float* y) {
  std::uint32_t word;
  memcpy(&word, bits, sizeof word);
  const __m512i plus = _mm512_set1_epi32(static_cast<int>(float_bits(scale)));
  const __m512i minus = _mm512_xor_si512(plus, _mm512_set1_epi32(static_cast<int>(0x80000000u)));
  _mm512_storeu_si512(y, _mm512_mask_mov_epi32(plus, static_cast<__mmask16>(word), minus));
  _mm512_storeu_si512(y + 16, _mm512_mask_mov_epi32(plus, static_cast<__mmask16>(word >> 16), minus));
}

inline void look_up_nibbles16(const std::uint8_t* pair, const float* table, float* low, float* high) {
  const __m512 values = _mm512_loadu_ps(table);
  const __m512i both = _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(pair)));
  _mm512_storeu_ps(low, _mm512_permutexvar_ps(both, values));  // the permutation reads four bits of each index
  _mm512_storeu_ps(high, _mm512_permutexvar_ps(_mm512_srli_epi32(both, 4), values));
}

inline void scaled16(const float* table, float scale, float* y) {
  _mm512_storeu_ps(y, _mm512_mul_ps(_mm512_loadu_ps(table), _mm512_set1_ps(scale)));
}

template <class Levels, std::uint32_t kPairs>
inline void scaled_nibbles(const std::uint8_t* pair, float scale, float* y) {
  alignas(64) float value[16];
  scaled16(Levels::kTable.value, scale, value);
  for (std::uint32_t i = 0; i < kPairs; i += 16) look_up_nibbles16(pair + i, value, y + i, y + i + kPairs);
}

inline void scaled_codes32(const std::int8_t* codes, float scale, float* y) {
  const __m512 by = _mm512_set1_ps(scale);
  for (int i = 0; i < 32; i += 16) {
    const __m512i wide = _mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(codes + i)));
    _mm512_storeu_ps(y + i, _mm512_mul_ps(_mm512_cvtepi32_ps(wide), by));
  }
}

inline void add32(const float* x, float* y) {
  for (int i = 0; i < 32; i += 16) _mm512_storeu_ps(y + i, _mm512_add_ps(_mm512_loadu_ps(y + i), _mm512_loadu_ps(x + i)));
}

inline void look_up_neighbours8(const std::uint8_t* pair, const float* table, float* y) {
  const __m512i wide = _mm512_cvtepu8_epi64(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(pair)));
  const __m512i both = _mm512_or_si512(wide, _mm512_slli_epi64(wide, 32));
  const __m512i index = _mm512_srlv_epi32(both, _mm512_set1_epi64(4));  // even elements by 4, odd ones by 0
  _mm512_storeu_ps(y, _mm512_permutexvar_ps(index, _mm512_loadu_ps(table)));
}

template <class Levels, std::uint32_t kPairs>
inline void scaled_neighbours(const std::uint8_t* pair, float scale, float* y) {
  alignas(64) float value[16];
  scaled16(Levels::kTable.value, scale, value);
  for (std::uint32_t i = 0; i < kPairs; i += 8) look_up_neighbours8(pair + i, value, y + 2 * i);
}

template <std::uint32_t kBlock>
inline void squared_errors16(const float* x, const float* scale, float unit, std::int32_t levels, float* error) {
  const __m512 by_unit = _mm512_set1_ps(unit), top = _mm512_set1_ps(static_cast<float>(levels));
  alignas(64) float inverse[16];
  _mm512_store_ps(inverse, _mm512_div_ps(_mm512_set1_ps(1.0f), _mm512_loadu_ps(scale)));
  __m512 sum[16];
  for (int c = 0; c < 16; ++c) {
    const __m512 by = _mm512_set1_ps(inverse[c]), back = _mm512_set1_ps(scale[c]);
    __m512 total = _mm512_setzero_ps();
    for (std::uint32_t i = 0; i < kBlock; i += 16) {
      const __m512 value = _mm512_loadu_ps(x + i);
      const __m512 rounded = _mm512_roundscale_ps(_mm512_mul_ps(value, by), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
      const __m512 code = _mm512_range_ps(rounded, top, 0x2);  // within ±levels
      const __m512 off = _mm512_mul_ps(_mm512_sub_ps(value, _mm512_mul_ps(code, back)), by_unit);
      total = _mm512_add_ps(total, _mm512_mul_ps(off, off));
    }
    sum[c] = total;
  }
  _mm512_storeu_ps(error, fold_vectors<Sum>(sum));
}

inline void stream_lines(const std::uint8_t* from, std::size_t n_lines, std::uint8_t* to) {
  for (std::size_t i = 0; i < n_lines; ++i)
    _mm512_stream_si512(reinterpret_cast<__m512i*>(to + 64 * i), _mm512_loadu_si512(from + 64 * i));
}
inline void stream_end() { _mm_sfence(); }

}  // namespace avx512
}  // namespace
}  // namespace scrimp
