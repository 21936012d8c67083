#pragma once
// Products of codes with numbers in fixed point, which are exact and so equal on every ISA: a weight or a slope is
// unit·W, and W an integer of three digits in base 256. `plain` is the definition; AVX2 multiplies pairs of 16 bits and
// codes of 4 bits as bytes, AVX-512 VNNI the digits themselves, which needs codes above 0. Included by
// code_gradient_loop-inl.h alone.
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "core/hd.h"
#include "kernels/linear_table.h"
#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace scrimp {
namespace {

constexpr std::int32_t kLargestFixed = 127 * 65793;  // three digits of 127
constexpr std::size_t kSegment = 4096;               // columns whose sums fit into the 32 bits of a lane
constexpr int kSumRows = 4;                          // rows that are multiplied by the weights together

// How a byte of a row is read: as a code, or as the code in four of its bits, 8 above.
struct WholeByte {
  static constexpr bool kFirst = true;  // the bytes' first reader
  static std::int32_t code(std::uint8_t byte) { return static_cast<std::int8_t>(byte); }
};
struct LowNibble {
  static constexpr bool kFirst = true;
  static std::int32_t code(std::uint8_t byte) { return (byte & 15) - 8; }
};
struct HighNibble {
  static constexpr bool kFirst = false;
  static std::int32_t code(std::uint8_t byte) { return (byte >> 4) - 8; }
};

// To the second-level cache: the first holds the rows at hand.
inline void fetch(const std::uint8_t* line) { __builtin_prefetch(line, 0, 2); }

SCRIMP_HD std::int8_t last_digit(std::int32_t fixed) { return static_cast<std::int8_t>(fixed); }
SCRIMP_HD std::int32_t other_digits(std::int32_t fixed) { return (fixed - last_digit(fixed)) / 256; }  // exact

// The digits of one number, `stride` apart: all but the last, the last.
inline void split(std::int32_t fixed, std::int16_t* digits, std::size_t stride) {
  digits[0] = static_cast<std::int16_t>(other_digits(fixed));
  digits[stride] = last_digit(fixed);
}
// The same as three digits, the last first.
inline void split(std::int32_t fixed, std::int8_t* digits, std::size_t stride) {
  for (std::size_t k = 0; k < 3; ++k, fixed = other_digits(fixed)) digits[k * stride] = last_digit(fixed);
}

namespace plain {

using Digit = std::int16_t;
template <class Codes>
constexpr std::int64_t kOffset = 0;  // what is added to each code before it is multiplied

// sum[r] = Σ_j W[j]·(row[r][j] + kOffset), a part of the columns at a time.
struct CodeSums {
  std::int64_t sum[kSumRows] = {};

  template <class Codes>
  void add(const std::uint8_t* const* row, std::size_t n, const Digit* digits, std::size_t stride) {
    for (int r = 0; r < kSumRows; ++r)
      for (std::size_t begin = 0; begin < n; begin += 256) {
        const std::size_t end = begin + 256 < n ? begin + 256 : n;
        std::int32_t upper = 0, lower = 0;
        for (std::size_t j = begin; j < end; ++j) {
          upper += Codes::code(row[r][j]) * digits[j];
          lower += Codes::code(row[r][j]) * digits[stride + j];
        }
        sum[r] += std::int64_t{256} * upper + lower;
      }
  }
  void take(std::int64_t* out) {
    for (int r = 0; r < kSumRows; ++r) out[r] += sum[r], sum[r] = 0;
  }
};

struct SlopeDigits {
  std::int32_t upper[kSlopeRows], lower[kSlopeRows];

  explicit SlopeDigits(const std::int32_t* fixed) {
    for (std::size_t r = 0; r < kSlopeRows; ++r) upper[r] = other_digits(fixed[r]), lower[r] = last_digit(fixed[r]);
  }
};

// g[j] += Σ_r slope[r]·row[r][j] over kSlopeRows rows: the exact sums of the upper and of the last digits, in floats.
// Rows `ahead` bytes ahead are fetched meanwhile (not here).
template <class Codes>
inline void add_codes(const std::uint8_t* const* row, std::size_t n, std::ptrdiff_t, const SlopeDigits& slope, float upper_unit, float unit, float* g) {
  for (std::size_t j = 0; j < n; j += 64) {
    const std::size_t width = n - j < 64 ? n - j : 64;
    std::int32_t upper[64] = {}, lower[64] = {};
    for (std::size_t r = 0; r < kSlopeRows; ++r)
      for (std::size_t i = 0; i < width; ++i) {
        const std::int32_t code = Codes::code(row[r][j + i]);
        upper[i] += code * slope.upper[r];
        lower[i] += code * slope.lower[r];
      }
    for (std::size_t i = 0; i < width; ++i)
      g[j + i] += static_cast<float>(upper[i]) * upper_unit + static_cast<float>(lower[i]) * unit;
  }
}

// What code_gradient_loop-inl.h takes of a kind of codes.
template <class Codes>
struct Leaf {
  using Digit = plain::Digit;
  using Sums = CodeSums;
  using Slopes = SlopeDigits;
  static constexpr std::size_t kPlanes = 2;
  static constexpr bool kWholeRows = false;  // else a function multiplies them, not Sums a run of columns
};

}  // namespace plain

}  // namespace
}  // namespace scrimp
#if defined(__AVX2__) && !defined(__AVX512VNNI__)
#include "kernels/code_leaf_avx2-inl.h"
#endif
namespace scrimp {
namespace {

#if defined(__AVX512VNNI__)
namespace vnni {

using Digit = std::int8_t;
constexpr std::size_t kPlanes = 3;
template <class Codes>
constexpr std::int64_t kOffset = 8;
template <>
constexpr std::int64_t kOffset<WholeByte> = 128;

inline __m512i bytes64(__m512i codes, WholeByte) { return _mm512_xor_si512(codes, _mm512_set1_epi8(-128)); }
inline __m512i bytes64(__m512i pairs, LowNibble) { return _mm512_and_si512(pairs, _mm512_set1_epi8(15)); }
inline __m512i bytes64(__m512i pairs, HighNibble) { return bytes64(_mm512_srli_epi16(pairs, 4), LowNibble{}); }

// The first n codes at p, 64 at most, plus kOffset; the others have no meaning.
template <class Codes>
inline __m512i load64(const std::uint8_t* p, std::size_t n) {
  if (n >= 64) return bytes64(_mm512_loadu_si512(p), Codes{});
  return bytes64(_mm512_maskz_loadu_epi8((std::uint64_t{1} << n) - 1, p), Codes{});
}

// a's sums of neighbours and b's, by turns.
inline __m512i fold32(__m512i a, __m512i b) { return _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b)); }
inline __m512i fold64(__m512i a, __m512i b) { return _mm512_add_epi32(_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b)); }
template <int kOne, int kTwo>
inline __m512i fold128(__m512i a, __m512i b) {
  return _mm512_add_epi32(_mm512_shuffle_i32x4(a, b, kOne), _mm512_shuffle_i32x4(a, b, kTwo));
}

// sum + codes·digits, four neighbours added. Not the intrinsic: gcc 12 copies each sum before and after it.
inline __m512i add_fours(__m512i sum, __m512i codes, __m512i digits) {
  asm("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(codes), "v"(digits));
  return sum;
}

struct CodeSums {
  __m512i digit[kSumRows][kPlanes];

  CodeSums() { clear(); }
  void clear() {  // not memset: the sums shall stay in registers
#pragma GCC unroll 4
    for (int r = 0; r < kSumRows; ++r)
#pragma GCC unroll 3
      for (std::size_t k = 0; k < kPlanes; ++k) digit[r][k] = _mm512_setzero_si512();
  }

  // n <= kSegment between two calls of take.
  template <class Codes>
  void add(const std::uint8_t* const* row, std::size_t n, const Digit* digits, std::size_t stride) {
    std::size_t j = 0;
    for (; j + 64 <= n; j += 64) step<Codes>(row, j, 64, digits, stride);
    if (j < n) step<Codes>(row, j, n - j, digits, stride);
  }
  template <class Codes>
  void step(const std::uint8_t* const* row, std::size_t j, std::size_t n, const Digit* digits, std::size_t stride) {
    __m512i weight[kPlanes];
    for (std::size_t k = 0; k < kPlanes; ++k) weight[k] = _mm512_loadu_si512(digits + k * stride + j);
#pragma GCC unroll 4
    for (int r = 0; r < kSumRows; ++r) {
      const __m512i codes = load64<Codes>(row[r] + j, n);
#pragma GCC unroll 3
      for (std::size_t k = 0; k < kPlanes; ++k) digit[r][k] = add_fours(digit[r][k], codes, weight[k]);
    }
  }
  void take(std::int64_t* out) {
    __m512i row[kSumRows];
#pragma GCC unroll 4
    for (int r = 0; r < kSumRows; ++r)
      row[r] = fold64(fold32(digit[r][0], digit[r][1]), fold32(digit[r][2], _mm512_setzero_si512()));
    // In registers to the end: the caller loads what is stored here at once.
    const __m512i sums = fold128<0x88, 0xdd>(fold128<0x44, 0xee>(row[0], row[2]), fold128<0x44, 0xee>(row[1], row[3]));
    const __m512i places = _mm512_setr_epi64(0, 8, 16, 0, 0, 8, 16, 0);
    const __m512i even = _mm512_sllv_epi64(_mm512_cvtepi32_epi64(_mm512_castsi512_si256(sums)), places);  // rows 0 and 2
    const __m512i odd = _mm512_sllv_epi64(_mm512_cvtepi32_epi64(_mm512_extracti64x4_epi64(sums, 1)), places);
    const __m512i pairs = _mm512_add_epi64(_mm512_unpacklo_epi64(even, odd), _mm512_unpackhi_epi64(even, odd));
    const __m512i ends = _mm512_shuffle_i64x2(pairs, pairs, 0xd8);
    const __m256i totals = _mm256_add_epi64(_mm512_castsi512_si256(ends), _mm512_extracti64x4_epi64(ends, 1));
    __m256i* to = reinterpret_cast<__m256i*>(out);
    _mm256_storeu_si256(to, _mm256_add_epi64(_mm256_loadu_si256(to), totals));
    clear();
  }
};

struct SlopeDigits {
  std::int8_t digit[kPlanes][kSlopeRows];  // read in fours
  std::int32_t sum[kPlanes];

  explicit SlopeDigits(const std::int32_t* fixed) {
    static_assert(kSlopeRows == 32);
    __m512i low = _mm512_loadu_si512(fixed), high = _mm512_loadu_si512(fixed + 16);
    for (std::size_t k = 0; k < kPlanes; ++k, low = next_digits(low), high = next_digits(high)) {
      const __m256i digits = _mm256_set_m128i(_mm512_cvtepi32_epi8(high), _mm512_cvtepi32_epi8(low));
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(digit[k]), digits);
      const __m256i fours = _mm256_dpbusd_epi32(_mm256_setzero_si256(), _mm256_set1_epi8(1), digits);
      const __m128i four = _mm_add_epi32(_mm256_castsi256_si128(fours), _mm256_extracti128_si256(fours, 1));
      const __m128i two = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0x4e));
      sum[k] = _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32(two, 0xb1)));
    }
  }
  // other_digits of each.
  static __m512i next_digits(__m512i fixed) { return _mm512_srai_epi32(_mm512_add_epi32(fixed, _mm512_set1_epi32(128)), 8); }
  __m512i four(std::size_t k, std::size_t r) const {
    std::int32_t four;
    memcpy(&four, digit[k] + r, sizeof four);
    return _mm512_set1_epi32(four);
  }
};

// Of 64 columns: quarter[i] holds the columns 16·b + 4·i … 16·b + 4·i + 3 in its part of 128 bits b.
struct ColumnSums {
  __m512i digit[kPlanes][4];

  template <class Codes>
  void add(const std::uint8_t* const* row, std::size_t n, const SlopeDigits& slope, std::size_t r) {
    const __m512i a = load64<Codes>(row[0], n), b = load64<Codes>(row[1], n), c = load64<Codes>(row[2], n), d = load64<Codes>(row[3], n);
    const __m512i ab = _mm512_unpacklo_epi8(a, b), ab_high = _mm512_unpackhi_epi8(a, b);
    const __m512i cd = _mm512_unpacklo_epi8(c, d), cd_high = _mm512_unpackhi_epi8(c, d);
    const __m512i fours[4] = {_mm512_unpacklo_epi16(ab, cd), _mm512_unpackhi_epi16(ab, cd),
                              _mm512_unpacklo_epi16(ab_high, cd_high), _mm512_unpackhi_epi16(ab_high, cd_high)};
#pragma GCC unroll 3
    for (std::size_t k = 0; k < kPlanes; ++k)
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) digit[k][i] = add_fours(digit[k][i], fours[i], slope.four(k, r));
  }
  __m512 in_floats(int i, float upper_unit, float unit) const {
    const __m512i upper = _mm512_add_epi32(digit[1][i], _mm512_slli_epi32(digit[2][i], 8));
    return _mm512_add_ps(_mm512_mul_ps(_mm512_cvtepi32_ps(upper), _mm512_set1_ps(upper_unit)),
                         _mm512_mul_ps(_mm512_cvtepi32_ps(digit[0][i]), _mm512_set1_ps(unit)));
  }
};

// g[0 … n) += the four quarters, in the order of the columns.
inline void add_quarters(const __m512* quarter, std::size_t n, float* g) {
  const __m512 a = _mm512_shuffle_f32x4(quarter[0], quarter[1], 0x44), b = _mm512_shuffle_f32x4(quarter[2], quarter[3], 0x44);
  const __m512 c = _mm512_shuffle_f32x4(quarter[0], quarter[1], 0xee), d = _mm512_shuffle_f32x4(quarter[2], quarter[3], 0xee);
  const __m512 sums[4] = {_mm512_shuffle_f32x4(a, b, 0x88), _mm512_shuffle_f32x4(a, b, 0xdd), _mm512_shuffle_f32x4(c, d, 0x88),
                          _mm512_shuffle_f32x4(c, d, 0xdd)};
#pragma GCC unroll 4
  for (std::size_t i = 0; i < 4; ++i) {
    const std::size_t left = n > 16 * i ? n - 16 * i : 0;
    const __mmask16 here = static_cast<__mmask16>(left >= 16 ? 0xffff : (1u << left) - 1);
    _mm512_mask_storeu_ps(g + 16 * i, here, _mm512_add_ps(_mm512_maskz_loadu_ps(here, g + 16 * i), sums[i]));
  }
}

template <class Codes>
inline void add_codes(const std::uint8_t* const* row, std::size_t n, std::ptrdiff_t ahead, const SlopeDigits& slope, float upper_unit, float unit, float* g) {
  for (std::size_t j = 0; j < n; j += 64) {
    ColumnSums sums;
    for (std::size_t k = 0; k < kPlanes; ++k)
      for (auto& v : sums.digit[k]) v = _mm512_set1_epi32(static_cast<std::int32_t>(-kOffset<Codes>) * slope.sum[k]);
    for (std::size_t r = 0; r < kSlopeRows; r += 4) {
      const std::uint8_t* const at[4] = {row[r] + j, row[r + 1] + j, row[r + 2] + j, row[r + 3] + j};
      sums.add<Codes>(at, n - j, slope, r);
      if (Codes::kFirst)
        for (const std::uint8_t* each : at) fetch(each + ahead);
    }
    __m512 quarter[4];
    for (int i = 0; i < 4; ++i) quarter[i] = sums.in_floats(i, upper_unit, unit);
    add_quarters(quarter, n - j, g + j);
  }
}

template <class Codes>
struct Leaf {
  using Digit = vnni::Digit;
  using Sums = CodeSums;
  using Slopes = SlopeDigits;
  static constexpr std::size_t kPlanes = vnni::kPlanes;
  static constexpr bool kWholeRows = false;
};

}  // namespace vnni
#endif

#if defined(__AVX512VNNI__)
namespace code_leaf = vnni;
#elif defined(__AVX2__)
namespace code_leaf = avx2;
#else
namespace code_leaf = plain;
#endif

}  // namespace
}  // namespace scrimp
