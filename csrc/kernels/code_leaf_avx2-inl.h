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

// The first n <= 16 bytes at p, zeros behind them. `before`: bytes of the row in front of p.
inline __m128i load_end(const std::uint8_t* p, std::size_t n, std::size_t before) {
  alignas(16) std::uint8_t bytes[32];
  if (n == 16) return load16(p);
  if (before + n >= 16) {
    _mm_store_si128(reinterpret_cast<__m128i*>(bytes), load16(p + n - 16));
    _mm_store_si128(reinterpret_cast<__m128i*>(bytes + 16), _mm_setzero_si128());
    return load16(bytes + 16 - n);
  }
  memset(bytes, 0, 16);
  memcpy(bytes, p, n);
  return load16(bytes);
}

inline __m256i load_end32(const std::uint8_t* p, std::size_t n, std::size_t before) {
  const std::size_t low = n < 16 ? n : 16;
  return _mm256_set_m128i(load_end(p + low, n - low, before + low), load_end(p, low, before));
}

inline __m256i all_pairs(const std::int16_t* pair) {
  std::int32_t both;
  memcpy(&both, pair, sizeof both);
  return _mm256_set1_epi32(both);
}

// --- sums of a row ---------------------------------------------------------------------------------------------------

// out[r] += the sum of row[r]'s four lanes.
inline void add_sums(const __m256i* row, std::int64_t* out) {
  const __m256i a = _mm256_add_epi64(_mm256_unpacklo_epi64(row[0], row[1]), _mm256_unpackhi_epi64(row[0], row[1]));
  const __m256i b = _mm256_add_epi64(_mm256_unpacklo_epi64(row[2], row[3]), _mm256_unpackhi_epi64(row[2], row[3]));
  const __m256i sums = _mm256_add_epi64(_mm256_permute2x128_si256(a, b, 0x20), _mm256_permute2x128_si256(a, b, 0x31));
  auto* const at = reinterpret_cast<__m256i*>(out);
  _mm256_storeu_si256(at, _mm256_add_epi64(_mm256_loadu_si256(at), sums));
}

// factor·(the two lanes of 32 bits in each lane of 64).
inline __m256i scaled_sums(__m256i lanes, std::int32_t factor) {
  const __m256i f = _mm256_set1_epi64x(factor);
  return _mm256_add_epi64(_mm256_mul_epi32(lanes, f), _mm256_mul_epi32(_mm256_srli_epi64(lanes, 32), f));
}

// Of kSumRows rows. The odd columns at the end come first: so the sums stay in registers.
struct ByteSums {
  __m256i upper[kSumRows], lower[kSumRows];

  // n <= kSegment: the sums of a lane fit into 32 bits.
  ByteSums(const std::uint8_t* const* row, std::size_t n, const std::int16_t* digits, std::size_t stride) {
#pragma GCC unroll 4
    for (int r = 0; r < kSumRows; ++r) upper[r] = lower[r] = _mm256_setzero_si256();
    const std::size_t whole = n / 16 * 16;
    if (whole < n) step(row, whole, digits, stride, [&](const std::uint8_t* p) { return load_end(p, n - whole, whole); });
    for (std::size_t j = 0; j < whole; j += 16) step(row, j, digits, stride, [](const std::uint8_t* p) { return load16(p); });
  }
  template <class Load>
  void step(const std::uint8_t* const* row, std::size_t j, const std::int16_t* digits, std::size_t stride, Load load) {
    const __m256i first = load32(digits + j), last = load32(digits + stride + j);
#pragma GCC unroll 4
    for (int r = 0; r < kSumRows; ++r) {
      const __m256i codes = _mm256_cvtepi8_epi16(load(row[r] + j));
      upper[r] = _mm256_add_epi32(upper[r], _mm256_madd_epi16(codes, first));
      lower[r] = _mm256_add_epi32(lower[r], _mm256_madd_epi16(codes, last));
    }
  }
  void add_to(std::int64_t* total) const {
    __m256i sum[kSumRows];
#pragma GCC unroll 4
    for (int r = 0; r < kSumRows; ++r) sum[r] = _mm256_add_epi64(scaled_sums(upper[r], 256), scaled_sums(lower[r], 1));
    add_sums(sum, total);
  }
};

inline void multiply(const std::uint8_t* const* row, std::size_t d, const std::int16_t* digits, std::size_t stride, std::int64_t* total) {
  for (std::size_t j = 0; j < d; j += kSegment) {
    const std::uint8_t* const at[kSumRows] = {row[0] + j, row[1] + j, row[2] + j, row[3] + j};
    ByteSums(at, d - j < kSegment ? d - j : kSegment, digits + j, stride).add_to(total);
  }
}

// Of two rows, h <= kSegment bytes; the digits of the high nibbles lie `high` further on.
struct NibbleSums {
  static constexpr std::size_t kPlanes = 3, kTogether = 4 * 32;  // bytes; a lane adds 16 of their codes, 30,720 at most
  const std::uint8_t *x, *y;
  const std::int8_t* digits;
  std::size_t stride, high;
  __m256i total[2][kPlanes];

  NibbleSums(const std::uint8_t* const* row, std::size_t begin, std::size_t h, const std::int8_t* of, std::size_t between, std::size_t far)
      : x(row[0] + begin), y(row[1] + begin), digits(of + begin), stride(between), high(far) {
#pragma GCC unroll 3
    for (std::size_t k = 0; k < kPlanes; ++k) total[0][k] = total[1][k] = _mm256_setzero_si256();
    const std::size_t whole = h / 32 * 32;
    if (whole < h) add(whole, h, [&](const std::uint8_t* p) { return load_end32(p, h - whole, whole); });
    for (std::size_t j = 0; j < whole; j += kTogether)
      add(j, j + kTogether < whole ? j + kTogether : whole, [](const std::uint8_t* p) { return load32(p); });
  }
  template <class Load>
  void add(std::size_t j, std::size_t end, Load load) {
    __m256i sum[2][kPlanes];
#pragma GCC unroll 3
    for (std::size_t k = 0; k < kPlanes; ++k) sum[0][k] = sum[1][k] = _mm256_setzero_si256();
    for (; j < end; j += 32) {
      const __m256i a = load(x + j), b = load(y + j);
      step(bytes32(a, LowNibble{}), bytes32(b, LowNibble{}), digits + j, sum);
      step(bytes32(a, HighNibble{}), bytes32(b, HighNibble{}), digits + high + j, sum);
    }
    const __m256i one = _mm256_set1_epi16(1);
#pragma GCC unroll 2
    for (int r = 0; r < 2; ++r)
#pragma GCC unroll 3
      for (std::size_t k = 0; k < kPlanes; ++k)
        total[r][k] = _mm256_add_epi32(total[r][k], _mm256_madd_epi16(sum[r][k], one));
  }
  void step(__m256i a, __m256i b, const std::int8_t* at, __m256i (*sum)[kPlanes]) const {
#pragma GCC unroll 3
    for (std::size_t k = 0; k < kPlanes; ++k) {
      const __m256i weight = load32(at + k * stride);
      sum[0][k] = _mm256_add_epi16(sum[0][k], _mm256_maddubs_epi16(a, weight));
      sum[1][k] = _mm256_add_epi16(sum[1][k], _mm256_maddubs_epi16(b, weight));
    }
  }
  __m256i sum_of(int r) const {
    const __m256i low = _mm256_add_epi32(total[r][0], _mm256_slli_epi32(total[r][1], 8));
    return _mm256_add_epi64(scaled_sums(low, 1), scaled_sums(total[r][2], 65536));
  }
};

inline void multiply(const std::uint8_t* const* row, std::size_t d, const std::int8_t* digits, std::size_t stride, std::int64_t* total) {
  const std::size_t h = (d + 1) / 2, high = high_nibbles_at(h);
  for (std::size_t j = 0; j < h; j += kSegment) {
    const std::size_t n = h - j < kSegment ? h - j : kSegment;
    const NibbleSums first(row, j, n, digits, stride, high), last(row + 2, j, n, digits, stride, high);
    const __m256i sum[kSumRows] = {first.sum_of(0), first.sum_of(1), last.sum_of(0), last.sum_of(1)};
    add_sums(sum, total);
  }
}

// --- sums of a column ------------------------------------------------------------------------------------------------

struct PairSlopes {
  std::int16_t upper[kSlopeRows], lower[kSlopeRows];  // read as pairs

  explicit PairSlopes(const std::int32_t* fixed) {
    for (std::size_t r = 0; r < kSlopeRows; ++r) split(fixed[r], upper + r, static_cast<std::size_t>(lower - upper));
  }
};

struct ByteSlopes {
  static constexpr std::size_t kPlanes = 3, kStride = 2 * kSlopeRows;
  std::int8_t digit[kPlanes * kStride];  // [k]: those of two rows, twice, and of the next two
  std::int32_t sum[kPlanes] = {};

  explicit ByteSlopes(const std::int32_t* fixed) {
    for (std::size_t r = 0; r < kSlopeRows; ++r) {
      const std::size_t at = r / 2 * 4 + r % 2;
      split(fixed[r], digit + at, kStride);
      split(fixed[r], digit + at + 2, kStride);
      for (std::size_t k = 0; k < kPlanes; ++k) sum[k] += digit[k * kStride + at];
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
    upper_even = _mm256_add_epi32(upper_even, _mm256_madd_epi16(even, first));
    lower_even = _mm256_add_epi32(lower_even, _mm256_madd_epi16(even, last));
    upper_odd = _mm256_add_epi32(upper_odd, _mm256_madd_epi16(odd, first));
    lower_odd = _mm256_add_epi32(lower_odd, _mm256_madd_epi16(odd, last));
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
#pragma GCC unroll 2
  for (int i = 0; i < 4; i += 2, j += 16) {
    SixteenColumns columns;
#pragma GCC unroll 2
    for (std::size_t r = 0; r < kSlopeRows; r += 2) {
      if (i == 0) fetch(row[r + j / 32 % 2] + j + ahead);
      columns.add(row[r] + j, row[r + 1] + j, all_pairs(slope.upper + r), all_pairs(slope.lower + r));
    }
    columns.write(upper_unit, unit, sums + i);
  }
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
  for (std::size_t r = 0; r < kSlopeRows; r += 2) {
    if (Codes::kFirst) fetch(row[r + j / 32 % 2] + j + ahead);
    const __m256i x = bytes32(load32(row[r] + j), Codes{}), y = bytes32(load32(row[r + 1] + j), Codes{});
    const __m256i first = _mm256_unpacklo_epi8(x, y), last = _mm256_unpackhi_epi8(x, y);
#pragma GCC unroll 3
    for (std::size_t k = 0; k < kPlanes; ++k) {
      even[k] = _mm256_add_epi16(even[k], _mm256_maddubs_epi16(first, slope.four(k, r)));
      odd[k] = _mm256_add_epi16(odd[k], _mm256_maddubs_epi16(last, slope.four(k, r)));
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
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(codes[r]), load_end32(row[r], n, 0));
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
  static constexpr bool kWholeRows = true;

  // total[r] += Σ_j W[j]·(row[r][j] + kOffset) of kSumRows rows.
  static void multiply(const std::uint8_t* const* row, std::size_t d, const D* digits, std::size_t stride, std::int64_t* total) {
    avx2::multiply(row, d, digits, stride, total);
  }
};
template <class Codes>
struct Leaf : LeafOfDigits<std::int8_t, ByteSlopes, 3> {};
template <>
struct Leaf<WholeByte> : LeafOfDigits<std::int16_t, PairSlopes, 2> {};

}  // namespace avx2
}  // namespace
}  // namespace scrimp
