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
  static constexpr std::size_t kInByte = 1;
  static constexpr bool kFirst = true;  // the bytes' first reader
  static std::int32_t code(std::uint8_t byte) { return static_cast<std::int8_t>(byte); }
};
struct LowNibble {
  static constexpr std::size_t kInByte = 2;
  static constexpr bool kFirst = true;
  static std::int32_t code(std::uint8_t byte) { return (byte & 15) - 8; }
};
struct HighNibble {
  static constexpr std::size_t kInByte = 2;
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
  static constexpr bool kBothNibbles = false;  // else one function adds both runs of nibbles
  static constexpr bool kWholeRows = false;    // else a function multiplies them, not Sums a run of columns
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
struct BothNibbles {};
inline __m512i bytes64(__m512i pairs, BothNibbles) { return pairs; }
inline __m512i bytes64(__m512i pairs, LowNibble) { return _mm512_and_si512(pairs, _mm512_set1_epi8(15)); }
inline __m512i bytes64(__m512i pairs, HighNibble) { return bytes64(_mm512_srli_epi16(pairs, 4), LowNibble{}); }

// The first n codes at p, 64 at most, plus kOffset; the others have no meaning.
template <class Codes>
inline __m512i load64(const std::uint8_t* p, std::size_t n) {
  if (n >= 64) return bytes64(_mm512_loadu_si512(p), Codes{});
  return bytes64(_mm512_maskz_loadu_epi8((std::uint64_t{1} << n) - 1, p), Codes{});
}

// Half of a's lanes and of b's, each the sum of two: a blend may go where a second shuffle would wait. By quarters of 128 bits,
// by 64 bits of each quarter, by 32 bits.
inline __m512i fold_quarters(__m512i a, __m512i b) {
  return _mm512_add_epi32(_mm512_mask_blend_epi64(0xf0, a, b), _mm512_shuffle_i64x2(a, b, 0x4e));
}
inline __m512i fold64(__m512i a, __m512i b) {
  const __m512d others = _mm512_shuffle_pd(_mm512_castsi512_pd(a), _mm512_castsi512_pd(b), 0x55);
  return _mm512_add_epi32(_mm512_mask_blend_epi64(0xaa, a, b), _mm512_castpd_si512(others));
}
inline __m512i fold32(__m512i a, __m512i b) {
  const __m512i others = _mm512_shuffle_epi32(_mm512_mask_blend_epi32(0x5555, a, b), _MM_PERM_CDAB);
  return _mm512_add_epi32(_mm512_mask_blend_epi32(0xaaaa, a, b), others);
}

// sum + codes·digits, four neighbours added. Not the intrinsic: gcc 12 copies each sum before and after it.
inline __m512i add_fours(__m512i sum, __m512i codes, __m512i digits) {
  asm("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(codes), "v"(digits));
  return sum;
}

// Of kBlockRows rows and at most kSegment bytes of each.
struct CodeSums {
  __m512i digit[kPlanes][kBlockRows];

  CodeSums() {  // not memset: the sums shall stay in registers
#pragma GCC unroll 3
    for (auto& rows : digit)
#pragma GCC unroll 8
      for (auto& sum : rows) sum = _mm512_setzero_si512();
  }
  template <class Codes>
  void add(const std::uint8_t* const* row, std::size_t j, std::size_t n, const Digit* digits, std::size_t stride) {
    __m512i weight[kPlanes];
#pragma GCC unroll 3
    for (std::size_t k = 0; k < kPlanes; ++k) weight[k] = _mm512_loadu_si512(digits + k * stride + j);
#pragma GCC unroll 8
    for (std::size_t r = 0; r < kBlockRows; ++r) {
      const __m512i codes = load64<Codes>(row[r] + j, n);
#pragma GCC unroll 3
      for (std::size_t k = 0; k < kPlanes; ++k) digit[k][r] = add_fours(digit[k][r], codes, weight[k]);
    }
  }
  // Of each row, in 64 bits.
  __m512i totals() const {
    static_assert(kBlockRows == 8);
    __m512i rows[kPlanes];
#pragma GCC unroll 3
    for (std::size_t k = 0; k < kPlanes; ++k) {
      const __m512i* s = digit[k];
      const __m512i a = fold64(fold_quarters(s[0], s[4]), fold_quarters(s[2], s[6]));
      const __m512i b = fold64(fold_quarters(s[1], s[5]), fold_quarters(s[3], s[7]));
      const __m512i halves = fold32(a, b);  // quarters: rows 0 to 3 twice, 4 to 7 twice
      rows[k] = _mm512_add_epi32(halves, _mm512_shuffle_i64x2(halves, halves, 0xb1));
      rows[k] = _mm512_cvtepi32_epi64(_mm512_castsi512_si256(_mm512_shuffle_i64x2(rows[k], rows[k], 0x08)));
    }
    return _mm512_add_epi64(rows[0], _mm512_add_epi64(_mm512_slli_epi64(rows[1], 8), _mm512_slli_epi64(rows[2], 16)));
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

// 64 bytes of each of four rows, by columns: fours(2·h) holds the columns 16·b + 8·h … 16·b + 8·h + 3 in its quarter b, and
// fours(2·h + 1) the next four.
template <class Codes>
struct FourRows {
  __m512i a, b, c, d;

  FourRows(const std::uint8_t* const* at, std::size_t n)
      : a(load64<Codes>(at[0], n)), b(load64<Codes>(at[1], n)), c(load64<Codes>(at[2], n)), d(load64<Codes>(at[3], n)) {}
  template <int kHalf>
  void write_fours(__m512i* two) const {
    const __m512i ab = kHalf ? _mm512_unpackhi_epi8(a, b) : _mm512_unpacklo_epi8(a, b);
    const __m512i cd = kHalf ? _mm512_unpackhi_epi8(c, d) : _mm512_unpacklo_epi8(c, d);
    two[0] = _mm512_unpacklo_epi16(ab, cd), two[1] = _mm512_unpackhi_epi16(ab, cd);
  }
};

// Sums of four `fours` over kSlopeRows rows, by digit.
struct ColumnSums {
  __m512i digit[kPlanes][4];

  // What the offsets of the codes, of the first two and of the last two, add.
  ColumnSums(const SlopeDigits& slope, std::int64_t first, std::int64_t last) {
#pragma GCC unroll 3
    for (std::size_t k = 0; k < kPlanes; ++k)
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) digit[k][i] = _mm512_set1_epi32(static_cast<std::int32_t>(i < 2 ? -first : -last) * slope.sum[k]);
  }
  void add(int i, __m512i codes, const __m512i* slopes) {
#pragma GCC unroll 3
    for (std::size_t k = 0; k < kPlanes; ++k) digit[k][i] = add_fours(digit[k][i], codes, slopes[k]);
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

// Calls use(four rows, their slopes by digit) for kSlopeRows rows from byte j of n on. Of `ahead`, Leaf::multiply fetches the
// even rows and this, if kFetch, the odd ones: memory shall not rest in either.
template <class Codes, bool kFetch, class Use>
inline void for_fours(const std::uint8_t* const* row, std::size_t j, std::size_t n, std::ptrdiff_t ahead, const SlopeDigits& slope,
                      Use use) {
  for (std::size_t r = 0; r < kSlopeRows; r += 4) {
    const std::uint8_t* const at[4] = {row[r] + j, row[r + 1] + j, row[r + 2] + j, row[r + 3] + j};
    const __m512i slopes[kPlanes] = {slope.four(0, r), slope.four(1, r), slope.four(2, r)};
    use(FourRows<Codes>(at, n - j), slopes);
    if (kFetch) fetch(at[1] + ahead), fetch(at[3] + ahead);
  }
}

template <class Codes>
inline void add_codes(const std::uint8_t* const* row, std::size_t n, std::ptrdiff_t ahead, const SlopeDigits& slope, float upper_unit, float unit, float* g) {
  for (std::size_t j = 0; j < n; j += 64) {
    ColumnSums sums(slope, kOffset<Codes>, kOffset<Codes>);
    for_fours<Codes, true>(row, j, n, ahead, slope, [&](const FourRows<Codes>& rows, const __m512i* slopes) {
      __m512i fours[4];
      rows.template write_fours<0>(fours);
      rows.template write_fours<1>(fours + 2);
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) sums.add(i, fours[i], slopes);
    });
    __m512 quarter[4];
    for (int i = 0; i < 4; ++i) quarter[i] = sums.in_floats(i, upper_unit, unit);
    add_quarters(quarter, n - j, g + j);
  }
}

// Bytes are low + 16·high: their sums less those of the low nibbles are 16 times those of the high ones, which so need
// neither a shift nor shuffles of their own. Half of 64 bytes at a time has its sums in registers.
template <int kHalf>
inline void sum_nibbles(const std::uint8_t* const* row, std::size_t j, std::size_t n, std::ptrdiff_t ahead, const SlopeDigits& slope,
                        float upper_unit, float unit, __m512* low, __m512* high) {
  ColumnSums sums(slope, kOffset<LowNibble>, 17 * kOffset<LowNibble>);
  for_fours<BothNibbles, kHalf == 0>(row, j, n, ahead, slope, [&](const FourRows<BothNibbles>& rows, const __m512i* slopes) {
    __m512i bytes[2];
    rows.template write_fours<kHalf>(bytes);
#pragma GCC unroll 2
    for (int i = 0; i < 2; ++i) {
      sums.add(2 + i, bytes[i], slopes);
      sums.add(i, bytes64(bytes[i], LowNibble{}), slopes);
    }
  });
#pragma GCC unroll 2
  for (int i = 0; i < 2; ++i) {
#pragma GCC unroll 3
    for (auto& digit : sums.digit) digit[2 + i] = _mm512_srai_epi32(_mm512_sub_epi32(digit[2 + i], digit[i]), 4);
    low[i] = sums.in_floats(i, upper_unit, unit);
    high[i] = sums.in_floats(2 + i, upper_unit, unit);
  }
}

// add_codes of both runs of nibbles.
inline void add_nibbles(const std::uint8_t* const* row, std::size_t d, std::ptrdiff_t ahead, const SlopeDigits& slope, float upper_unit,
                        float unit, float* g) {
  const std::size_t h = (d + 1) / 2;
  for (std::size_t j = 0; j < h; j += 64) {
    __m512 low[4], high[4];
    sum_nibbles<0>(row, j, h, ahead, slope, upper_unit, unit, low, high);
    sum_nibbles<1>(row, j, h, ahead, slope, upper_unit, unit, low + 2, high + 2);
    add_quarters(low, h - j, g + j);
    add_quarters(high, d - h - j, g + h + j);
  }
}

// Adds up n bytes of a row that hold each a code, or a low and a high one.
inline void add_columns(CodeSums& sums, WholeByte, const std::uint8_t* const* row, std::size_t j, std::size_t n, std::size_t,
                        const Digit* digits, std::size_t stride) {
  sums.add<WholeByte>(row, j, n, digits, stride);
}
inline void add_columns(CodeSums& sums, LowNibble, const std::uint8_t* const* row, std::size_t j, std::size_t n, std::size_t nbytes,
                        const Digit* digits, std::size_t stride) {
  sums.add<LowNibble>(row, j, n, digits, stride);
  sums.add<HighNibble>(row, j, n, digits + high_nibbles_at(nbytes), stride);
}

template <class Codes>
struct Leaf {
  using Digit = vnni::Digit;
  using Slopes = SlopeDigits;
  static constexpr std::size_t kPlanes = vnni::kPlanes;
  static constexpr bool kWholeRows = true, kBothNibbles = Codes::kInByte == 2;

  // z[r] = (Σ_j W[j]·(row[r][j] + kOffset) − shift)·unit of kBlockRows rows.
  static void multiply(const std::uint8_t* const* row, std::size_t d, std::ptrdiff_t ahead, const Digit* digits, std::size_t stride,
                       const double* shift, const double* unit, float* z) {
    const std::size_t nbytes = (d + Codes::kInByte - 1) / Codes::kInByte;
    __m512i total = _mm512_setzero_si512();
    for (std::size_t begin = 0; begin < nbytes; begin += kSegment) {
      const std::size_t end = nbytes - begin < kSegment ? nbytes : begin + kSegment;
      CodeSums sums;
      std::size_t j = begin;
      for (; j + 64 <= end; j += 64) {
        add_columns(sums, Codes{}, row, j, 64, nbytes, digits, stride);
        for (std::size_t r = 0; r < kBlockRows; r += 2) fetch(row[r] + j + ahead);
      }
      if (j < end) add_columns(sums, Codes{}, row, j, end - j, nbytes, digits, stride);
      total = _mm512_add_epi64(total, sums.totals());
    }
    const __m512d exact = _mm512_sub_pd(_mm512_cvtepi64_pd(total), _mm512_set1_pd(*shift));
    _mm256_storeu_ps(z, _mm512_cvtpd_ps(_mm512_mul_pd(exact, _mm512_set1_pd(*unit))));
  }

  static void add_both(const std::uint8_t* const* row, std::size_t d, std::ptrdiff_t ahead, const Slopes& slope, float upper_unit,
                       float unit, float* g) {
    add_nibbles(row, d, ahead, slope, upper_unit, unit, g);
  }
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
