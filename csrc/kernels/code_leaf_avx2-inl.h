#pragma once
// code_leaf-inl.h for AVX2. Codes of 8 bits are multiplied as pairs of 16 bits by digits of 16; codes of 4, plus 8, as
// bytes by the three digits, whose sums fit into 16 bits for a while. Included by it alone.
#include <immintrin.h>

namespace scrimp {
namespace {
namespace avx2 {

template <class Codes>
constexpr std::int64_t kOffset = 8;
template <>
constexpr std::int64_t kOffset<WholeByte> = 0;

inline __m256i bytes32(__m256i pairs, LowNibble) { return _mm256_and_si256(pairs, _mm256_set1_epi8(15)); }
inline __m256i bytes32(__m256i pairs, HighNibble) { return bytes32(_mm256_srli_epi16(pairs, 4), LowNibble{}); }

inline __m128i load16(const std::uint8_t* p) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p)); }
inline __m256i load32(const std::uint8_t* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }
inline __m256i load32(const std::int8_t* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }
inline __m256i load32(const std::int16_t* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }

alignas(32) constexpr std::uint8_t kLast[64] = {0,   0,   0,   0,   0,   0,   0,   0,   0,   0,   0,   0,   0,   0,   0,   0,
                                                0,   0,   0,   0,   0,   0,   0,   0,   0,   0,   0,   0,   0,   0,   0,   0,
                                                255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255,
                                                255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255};

// The last 16 or 32 of a row's n bytes, of which the last `rest` are kept and the others cleared; all of a shorter row.
inline __m128i load_end16(const std::uint8_t* row, std::size_t n, std::size_t rest) {
  if (n >= 16) return _mm_and_si128(load16(row + n - 16), load16(kLast + 16 + rest));
  std::uint8_t bytes[16] = {};
  memcpy(bytes, row, n);
  return load16(bytes);
}
inline __m256i load_end32(const std::uint8_t* row, std::size_t n, std::size_t rest) {
  if (n >= 32) return _mm256_and_si256(load32(row + n - 32), load32(kLast + rest));
  std::uint8_t bytes[32] = {};
  memcpy(bytes, row, n);
  return load32(bytes);
}

inline __m256i all_pairs(const std::int16_t* pair) {
  std::int32_t both;
  memcpy(&both, pair, sizeof both);
  return _mm256_set1_epi32(both);
}

// sum + codes·digits, two neighbours added. In asm, because gcc adds products first and copies sums, at 1.7 times the cycles.
inline void add_pairs(__m256i& sum, __m256i codes, __m256i digits) {
  const __m256i products = _mm256_madd_epi16(codes, digits);
  asm("vpaddd %1, %0, %0" : "+x"(sum) : "x"(products));
}
inline void add_byte_pairs(__m256i& sum, __m256i codes, __m256i digits) {
  const __m256i products = _mm256_maddubs_epi16(codes, digits);
  asm("vpaddw %1, %0, %0" : "+x"(sum) : "x"(products));
}

// --- sums of a row ---------------------------------------------------------------------------------------------------

// The sums of the lanes of four rows.
inline __m128i sums_of_four(__m256i p, __m256i q, __m256i r, __m256i s) {
  const __m256i a = _mm256_add_epi32(_mm256_unpacklo_epi32(p, q), _mm256_unpackhi_epi32(p, q));
  const __m256i b = _mm256_add_epi32(_mm256_unpacklo_epi32(r, s), _mm256_unpackhi_epi32(r, s));
  const __m256i sums = _mm256_add_epi32(_mm256_unpacklo_epi64(a, b), _mm256_unpackhi_epi64(a, b));
  return _mm_add_epi32(_mm256_castsi256_si128(sums), _mm256_extracti128_si256(sums, 1));
}

// Integers of 64 bits in double, rounded once: the halves beside powers of two, which are taken away again.
inline __m256d in_doubles(__m256i x) {
  const __m256i low = _mm256_blend_epi32(_mm256_castpd_si256(_mm256_set1_pd(0x1p52)), x, 0x55);
  const __m256i high = _mm256_xor_si256(_mm256_srli_epi64(x, 32), _mm256_castpd_si256(_mm256_set1_pd(0x1p84 + 0x1p63)));
  const __m256d upper = _mm256_sub_pd(_mm256_castsi256_pd(high), _mm256_set1_pd(0x1p84 + 0x1p63 + 0x1p52));
  return _mm256_add_pd(upper, _mm256_castsi256_pd(low));
}

// (sum[r] − shift)·unit of four rows.
inline __m128 scaled_sums(__m256i sum, const double* shift, const double* unit) {
  return _mm256_cvtpd_ps(_mm256_mul_pd(_mm256_sub_pd(in_doubles(sum), _mm256_broadcast_sd(shift)), _mm256_broadcast_sd(unit)));
}

// Of a row. Members here and below, not arrays: gcc leaves those in memory.
struct ByteSum {
  __m256i upper = _mm256_setzero_si256(), lower = upper;

  void add(__m128i bytes, __m256i first, __m256i last) {
    const __m256i codes = _mm256_cvtepi8_epi16(bytes);
    add_pairs(upper, codes, first);
    add_pairs(lower, codes, last);
  }
};

// Of kSumRows rows of n, the columns begin … end. Of each four rows the first and the third are fetched `ahead` bytes ahead;
// add_codes fetches the others.
struct ByteSums {
  static constexpr std::size_t kColumns = 512;  // whose sums of upper digits fit into 32 bits
  ByteSum a, b, c, d;

  ByteSums(const std::uint8_t* const* row, std::size_t begin, std::size_t end, std::size_t n, std::ptrdiff_t ahead,
           const std::int16_t* digits, std::size_t stride) {
    const std::uint8_t *const p = row[0], *const q = row[1], *const r = row[2], *const s = row[3];
    std::size_t j = begin;
    for (; j + 64 <= end; j += 64) {
      fetch(p + j + ahead);
      fetch(r + j + ahead);
#pragma GCC unroll 4
      for (std::size_t i = 0; i < 64; i += 16)
        add(load16(p + j + i), load16(q + j + i), load16(r + j + i), load16(s + j + i), digits + j + i, stride);
    }
    if (j == end) return;
    fetch(p + j + ahead);
    fetch(r + j + ahead);
    for (; j + 16 <= end; j += 16) add(load16(p + j), load16(q + j), load16(r + j), load16(s + j), digits + j, stride);
    if (j == end) return;
    const auto last = [=](const std::uint8_t* x) { return load_end16(x, n, n - j); };
    add(last(p), last(q), last(r), last(s), digits + (n < 16 ? 0 : n - 16), stride);
  }
  void add(__m128i x, __m128i y, __m128i z, __m128i w, const std::int16_t* digits, std::size_t stride) {
    const __m256i first = load32(digits), last = load32(digits + stride);
    a.add(x, first, last);
    b.add(y, first, last);
    c.add(z, first, last);
    d.add(w, first, last);
  }
  __m256i sums() const {
    const __m256i high = _mm256_cvtepi32_epi64(sums_of_four(a.upper, b.upper, c.upper, d.upper));
    return _mm256_add_epi64(_mm256_slli_epi64(high, 8), _mm256_cvtepi32_epi64(sums_of_four(a.lower, b.lower, c.lower, d.lower)));
  }
};

// Σ_j W[j]·(row[r][j] + kOffset) of kSumRows rows. Apart from what calls it, for the sake of its registers.
__attribute__((noinline)) __m256i sums_of_rows(const std::uint8_t* const* row, std::size_t d, std::ptrdiff_t ahead,
                                               const std::int16_t* digits, std::size_t stride) {
  __m256i sum = _mm256_setzero_si256();
  for (std::size_t j = 0; j < d; j += ByteSums::kColumns) {
    const std::size_t end = d - j < ByteSums::kColumns ? d : j + ByteSums::kColumns;
    sum = _mm256_add_epi64(sum, ByteSums(row, j, end, d, ahead, digits, stride).sums());
  }
  return sum;
}

struct NibbleSum {
  __m256i plane0 = _mm256_setzero_si256(), plane1 = plane0, plane2 = plane0;

  void add(__m256i codes, __m256i first, __m256i second, __m256i third) {
    add_byte_pairs(plane0, codes, first);
    add_byte_pairs(plane1, codes, second);
    add_byte_pairs(plane2, codes, third);
  }
};

// The same in 32 bits: the first two planes as one.
struct WideNibbleSum {
  __m256i lower = _mm256_setzero_si256(), upper = lower;

  void add(const NibbleSum& sum) {
    const __m256i one = _mm256_set1_epi16(1), first = _mm256_madd_epi16(sum.plane0, one);
    lower = _mm256_add_epi32(lower, _mm256_add_epi32(first, _mm256_madd_epi16(sum.plane1, _mm256_set1_epi16(256))));
    upper = _mm256_add_epi32(upper, _mm256_madd_epi16(sum.plane2, one));
  }
};

// Of two rows of h bytes, the bytes begin … end; the digits of the high nibbles lie `high` further on. The first row is
// fetched ahead.
struct NibbleSums {
  static constexpr std::size_t kTogether = 4 * 32;  // bytes; a lane adds 16 of their codes, 30,720 at most
  static constexpr std::size_t kBytes = 1024;       // whose sums of the lower two digits fit into 32 bits
  const std::int8_t* digits;
  std::size_t stride, high;
  WideNibbleSum a, b;

  __attribute__((always_inline)) NibbleSums(const std::uint8_t* const* row, std::size_t begin, std::size_t end, std::size_t h,
                                            std::ptrdiff_t ahead, const std::int8_t* of, std::size_t between, std::size_t far)
      : digits(of), stride(between), high(far) {
    const std::uint8_t *const p = row[0], *const q = row[1];
    std::size_t j = begin;
    for (; j + kTogether <= end; j += kTogether) {
      NibbleSum x, y;
      fetch(p + j + ahead);
      fetch(p + j + 64 + ahead);
#pragma GCC unroll 4
      for (std::size_t i = 0; i < kTogether; i += 32) add(load32(p + j + i), load32(q + j + i), j + i, x, y);
      a.add(x);
      b.add(y);
    }
    if (j == end) return;
    NibbleSum x, y;
    fetch(p + j + ahead);
    fetch(p + end - 1 + ahead);
    for (; j + 32 <= end; j += 32) add(load32(p + j), load32(q + j), j, x, y);
    if (j < end) add(load_end32(p, h, h - j), load_end32(q, h, h - j), h < 32 ? 0 : h - 32, x, y);
    a.add(x);
    b.add(y);
  }

  void add(__m256i p, __m256i q, std::size_t j, NibbleSum& x, NibbleSum& y) const {
    add(bytes32(p, LowNibble{}), bytes32(q, LowNibble{}), digits + j, x, y);
    add(bytes32(p, HighNibble{}), bytes32(q, HighNibble{}), digits + high + j, x, y);
  }
  void add(__m256i p, __m256i q, const std::int8_t* at, NibbleSum& x, NibbleSum& y) const {
    __m256i first = load32(at), second = load32(at + stride), third = load32(at + 2 * stride);
    asm("" : "+x"(first), "+x"(second), "+x"(third));  // loaded once for both rows
    x.add(p, first, second, third);
    y.add(q, first, second, third);
  }
};

__attribute__((noinline)) __m256i sums_of_rows(const std::uint8_t* const* row, std::size_t d, std::ptrdiff_t ahead,
                                               const std::int8_t* digits, std::size_t stride) {
  const std::size_t h = (d + 1) / 2, high = high_nibbles_at(h);
  __m256i sum = _mm256_setzero_si256();
  for (std::size_t j = 0; j < h; j += NibbleSums::kBytes) {
    const std::size_t end = h - j < NibbleSums::kBytes ? h : j + NibbleSums::kBytes;
    const NibbleSums x(row, j, end, h, ahead, digits, stride, high), y(row + 2, j, end, h, ahead, digits, stride, high);
    const __m256i lower = _mm256_cvtepi32_epi64(sums_of_four(x.a.lower, x.b.lower, y.a.lower, y.b.lower));
    const __m256i upper = _mm256_cvtepi32_epi64(sums_of_four(x.a.upper, x.b.upper, y.a.upper, y.b.upper));
    sum = _mm256_add_epi64(sum, _mm256_add_epi64(lower, _mm256_slli_epi64(upper, 16)));
  }
  return sum;
}

// --- sums of a column ------------------------------------------------------------------------------------------------

// Four registers of integers as one of their last bytes, in order.
inline __m256i last_bytes(const __m256i* fixed) {
  const auto last = [](__m256i v) { return _mm256_srai_epi32(_mm256_slli_epi32(v, 24), 24); };
  const __m256i low = _mm256_packs_epi32(last(fixed[0]), last(fixed[1])), high = _mm256_packs_epi32(last(fixed[2]), last(fixed[3]));
  return _mm256_permutevar8x32_epi32(_mm256_packs_epi16(low, high), _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
}
// other_digits of each.
inline __m256i next_digits(__m256i fixed) { return _mm256_srai_epi32(_mm256_add_epi32(fixed, _mm256_set1_epi32(128)), 8); }

inline std::int32_t sum_of_bytes(__m256i bytes) {
  const __m256i fours = _mm256_madd_epi16(_mm256_maddubs_epi16(_mm256_set1_epi8(1), bytes), _mm256_set1_epi16(1));
  const __m128i four = _mm_add_epi32(_mm256_castsi256_si128(fours), _mm256_extracti128_si256(fours, 1));
  const __m128i two = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0x4e));
  return _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32(two, 0xb1)));
}

struct PairSlopes {
  alignas(32) std::int16_t upper[kSlopeRows], lower[kSlopeRows];  // read as pairs

  explicit PairSlopes(const std::int32_t* fixed) {
    static_assert(kSlopeRows == 32);
    __m256i all[4], next[4];
    for (int i = 0; i < 4; ++i) {
      all[i] = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(fixed + 8 * i));
      next[i] = next_digits(all[i]);
    }
    const auto put = [](std::int16_t* to, __m256i v) { _mm256_store_si256(reinterpret_cast<__m256i*>(to), v); };
    for (int i = 0; i < 4; i += 2) put(upper + 8 * i, _mm256_permute4x64_epi64(_mm256_packs_epi32(next[i], next[i + 1]), 0xd8));
    const __m256i last = last_bytes(all);
    put(lower, _mm256_cvtepi8_epi16(_mm256_castsi256_si128(last)));
    put(lower + 16, _mm256_cvtepi8_epi16(_mm256_extracti128_si256(last, 1)));
  }
};

struct ByteSlopes {
  static constexpr std::size_t kPlanes = 3, kStride = 2 * kSlopeRows;
  alignas(32) std::int8_t digit[kPlanes * kStride];  // [k]: those of two rows, twice, and of the next two
  std::int32_t sum[kPlanes];

  explicit ByteSlopes(const std::int32_t* fixed) {
    static_assert(kSlopeRows == 32);
    __m256i all[4];
    for (int i = 0; i < 4; ++i) all[i] = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(fixed + 8 * i));
    for (std::size_t k = 0; k < kPlanes; ++k) {
      const __m256i digits = last_bytes(all), low = _mm256_unpacklo_epi16(digits, digits), high = _mm256_unpackhi_epi16(digits, digits);
      __m256i* const to = reinterpret_cast<__m256i*>(digit + k * kStride);
      _mm256_store_si256(to, _mm256_permute2x128_si256(low, high, 0x20));
      _mm256_store_si256(to + 1, _mm256_permute2x128_si256(low, high, 0x31));
      sum[k] = sum_of_bytes(digits);
      for (__m256i& v : all) v = next_digits(v);
    }
  }
  __m256i four(std::size_t k, std::size_t r) const {
    std::int32_t four;
    memcpy(&four, digit + k * kStride + 2 * r, sizeof four);
    return _mm256_set1_epi32(four);
  }
};

inline __m256 in_floats(__m256i upper, __m256i lower, float upper_unit, float unit) {
  return _mm256_add_ps(_mm256_mul_ps(_mm256_cvtepi32_ps(upper), _mm256_set1_ps(upper_unit)),
                       _mm256_mul_ps(_mm256_cvtepi32_ps(lower), _mm256_set1_ps(unit)));
}

// Sums of 16 columns: the even ones of four, the odd ones.
struct SixteenColumns {
  __m256i upper_even = _mm256_setzero_si256(), lower_even = upper_even, upper_odd = upper_even, lower_odd = upper_even;

  void add(const std::uint8_t* a, const std::uint8_t* b, __m256i first, __m256i last) {
    const __m256i x = _mm256_cvtepi8_epi16(load16(a)), y = _mm256_cvtepi8_epi16(load16(b));
    const __m256i even = _mm256_unpacklo_epi16(x, y), odd = _mm256_unpackhi_epi16(x, y);
    add_pairs(upper_even, even, first);
    add_pairs(lower_even, even, last);
    add_pairs(upper_odd, odd, first);
    add_pairs(lower_odd, odd, last);
  }
  void write(float upper_unit, float unit, __m256* sums) const {
    const __m256 even = in_floats(upper_even, lower_even, upper_unit, unit), odd = in_floats(upper_odd, lower_odd, upper_unit, unit);
    sums[0] = _mm256_permute2f128_ps(even, odd, 0x20);
    sums[1] = _mm256_permute2f128_ps(even, odd, 0x31);
  }
};

// sums[i] = Σ_r slope[r]·row[r][j + 8·i …] over kSlopeRows rows, 32 columns in all.
template <class Codes>
inline void sum_columns(const std::uint8_t* const* row, std::size_t j, std::ptrdiff_t ahead, const PairSlopes& slope, float upper_unit,
                        float unit, __m256* sums) {
  SixteenColumns first, second;
  for (std::size_t r = 0; r < kSlopeRows; r += 4) {
    fetch(row[r + 1 + j / 32 % 2 * 2] + j + ahead);
#pragma GCC unroll 2
    for (std::size_t i = r; i < r + 4; i += 2) {
      const __m256i upper = all_pairs(slope.upper + i), lower = all_pairs(slope.lower + i);
      first.add(row[i] + j, row[i + 1] + j, upper, lower);
      second.add(row[i] + j + 16, row[i + 1] + j + 16, upper, lower);
    }
  }
  first.write(upper_unit, unit, sums);
  second.write(upper_unit, unit, sums + 2);
}

// Codes −8 … 7 times a digit add up to −32512 … 32768 over 32 rows: less one, that fits into 16 bits, whatever wraps on the
// way.
template <class Codes>
inline void sum_columns(const std::uint8_t* const* row, std::size_t j, std::ptrdiff_t ahead, const ByteSlopes& slope, float upper_unit,
                        float unit, __m256* sums) {
  static_assert(kSlopeRows == 32);
  constexpr std::size_t kPlanes = ByteSlopes::kPlanes;
  __m256i even[kPlanes], odd[kPlanes];
#pragma GCC unroll 3
  for (std::size_t k = 0; k < kPlanes; ++k)
    even[k] = odd[k] = _mm256_set1_epi16(static_cast<std::int16_t>(-kOffset<Codes> * slope.sum[k] - 1));
  for (std::size_t r = 0; r < kSlopeRows; r += 4) {
    if (Codes::kFirst) fetch(row[r + 1 + j / 32 % 2 * 2] + j + ahead);
#pragma GCC unroll 2
    for (std::size_t i = r; i < r + 4; i += 2) {
      const __m256i x = load32(row[i] + j), y = load32(row[i + 1] + j);
      const __m256i first = bytes32(_mm256_unpacklo_epi8(x, y), Codes{}), last = bytes32(_mm256_unpackhi_epi8(x, y), Codes{});
#pragma GCC unroll 3
      for (std::size_t k = 0; k < kPlanes; ++k) {
        const __m256i digits = slope.four(k, i);
        add_byte_pairs(even[k], first, digits);
        add_byte_pairs(odd[k], last, digits);
      }
    }
  }
  const __m256i one = _mm256_set1_epi16(1), weights = _mm256_set1_epi32(256 << 16 | 1), missing = _mm256_set1_epi32(257);
  const auto floats = [&](__m256i lower, __m256i upper) {
    return in_floats(_mm256_add_epi32(_mm256_madd_epi16(upper, weights), missing), _mm256_madd_epi16(lower, one), upper_unit, unit);
  };
#pragma GCC unroll 2
  for (int i = 0; i < 2; ++i) {
    const __m256i* const sum = i ? odd : even;
    const __m256 low = floats(_mm256_unpacklo_epi16(sum[0], one), _mm256_unpacklo_epi16(sum[1], sum[2]));
    const __m256 high = floats(_mm256_unpackhi_epi16(sum[0], one), _mm256_unpackhi_epi16(sum[1], sum[2]));
    sums[i] = _mm256_permute2f128_ps(low, high, 0x20);
    sums[i + 2] = _mm256_permute2f128_ps(low, high, 0x31);
  }
}

template <class Codes, class Slopes>
inline void add_codes(const std::uint8_t* const* row, std::size_t n, std::ptrdiff_t ahead, const Slopes& slope, float upper_unit,
                      float unit, float* g) {
  __m256 sums[4];
  std::size_t j = 0;
  for (; j + 32 <= n; j += 32) {
    sum_columns<Codes>(row, j, ahead, slope, upper_unit, unit, sums);
#pragma GCC unroll 4
    for (std::size_t i = 0; i < 4; ++i) _mm256_storeu_ps(g + j + 8 * i, _mm256_add_ps(_mm256_loadu_ps(g + j + 8 * i), sums[i]));
  }
  if (j == n) return;
  float values[32];
  if (n >= 32) {  // the last 32 columns, of which some are done
    sum_columns<Codes>(row, n - 32, ahead, slope, upper_unit, unit, sums);
  } else {
    std::uint8_t codes[kSlopeRows][32];
    const std::uint8_t* end[kSlopeRows];
    for (std::size_t r = 0; r < kSlopeRows; ++r) {
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(codes[r]), load_end32(row[r], n, n));
      end[r] = codes[r];
    }
    sum_columns<Codes>(end, 0, ahead, slope, upper_unit, unit, sums);
  }
  memcpy(values, sums, sizeof values);
  const float* const from = n >= 32 ? values + 32 - n : values;
  for (; j < n; ++j) g[j] += from[j];
}

// --- by the codes ----------------------------------------------------------------------------------------------------

template <class D, class S, std::size_t kCount>
struct LeafOfDigits {
  using Digit = D;
  using Slopes = S;
  static constexpr std::size_t kPlanes = kCount;
  static constexpr bool kWholeRows = true, kBothNibbles = false;

  // z[r] = (Σ_j W[j]·(row[r][j] + kOffset) − shift)·unit of kBlockRows rows.
  static void multiply(const std::uint8_t* const* row, std::size_t d, std::ptrdiff_t ahead, const D* digits, std::size_t stride,
                       const double* shift, const double* unit, float* z) {
    static_assert(kBlockRows == 2 * kSumRows);
    const __m256i low = sums_of_rows(row, d, ahead, digits, stride), high = sums_of_rows(row + kSumRows, d, ahead, digits, stride);
    _mm256_storeu_ps(z, _mm256_set_m128(scaled_sums(high, shift, unit), scaled_sums(low, shift, unit)));
  }
};
template <class Codes>
struct Leaf : LeafOfDigits<std::int8_t, ByteSlopes, 3> {};
template <>
struct Leaf<WholeByte> : LeafOfDigits<std::int16_t, PairSlopes, 2> {};

}  // namespace avx2
}  // namespace
}  // namespace scrimp
