#pragma once
// The leaves of small floats in AVX2 (with FMA and F16C): a part of leaf_avx2-inl.h, included by leaf-inl.h alone.
#include "kernels/leaf_avx2-inl.h"

namespace scrimp {
namespace {
namespace avx2 {

constexpr bool kCasts = true;

inline bool any(__m256i mask) { return __builtin_expect(_mm256_movemask_epi8(mask) != 0, 0); }

template <class Step, class Again>
__attribute__((noinline, cold)) void again_by_32(std::size_t n, Step step, Again again) {
  for (std::size_t i = 0; i < n; i += 32)
    if (any(step(i))) again(i);
}

// The conversions of the hardware keep the payloads of NaN, the codecs do not. step(i) does 32 values and returns a mask
// that is not zero if NaN are among them; again(i) does them as `plain` has it. Nothing in the loop depends on the masks.
template <class Step, class Again>
inline void by_32(std::size_t n, Step step, Again again) {
  __m256i nan = _mm256_setzero_si256();
  for (std::size_t i = 0; i < n; i += 32) nan = _mm256_or_si256(nan, step(i));
  if (any(nan)) again_by_32(n, step, again);
}

struct Values32 {
  __m256 v[4];
  explicit Values32(const float* x)
      : v{_mm256_loadu_ps(x), _mm256_loadu_ps(x + 8), _mm256_loadu_ps(x + 16), _mm256_loadu_ps(x + 24)} {}
  Values32(const float* x, __m256 by) : v{product(x, by), product(x + 8, by), product(x + 16, by), product(x + 24, by)} {}

  __m256i nan() const {
    return _mm256_castps_si256(_mm256_or_ps(_mm256_cmp_ps(v[0], v[1], _CMP_UNORD_Q), _mm256_cmp_ps(v[2], v[3], _CMP_UNORD_Q)));
  }
};

inline __m128i as_halves(__m256 value) { return _mm256_cvtps_ph(value, _MM_FROUND_TO_NEAREST_INT); }

inline void to_halves(const float* x, std::size_t n, std::uint8_t* halves) {
  const auto step = [=](std::size_t i) {
    const Values32 values(x + i);
    auto* out = reinterpret_cast<__m128i*>(halves + 2 * i);
    for (int k = 0; k < 4; ++k) _mm_storeu_si128(out + k, as_halves(values.v[k]));
    return values.nan();
  };
  by_32(n, step, [=](std::size_t i) { plain::to_halves(x + i, 32, halves + 2 * i); });
}

inline __m256i rounded_to_upper(__m256 value) {
  const __m256i bits = _mm256_castps_si256(value), odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
  return _mm256_srli_epi32(_mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7fff)), odd), 16);
}

inline void to_bfloats(const float* x, std::size_t n, std::uint8_t* bfloats) {
  const auto step = [=](std::size_t i) {
    const Values32 values(x + i);
    for (int k = 0; k < 4; k += 2) {
      const __m256i words = _mm256_packus_epi32(rounded_to_upper(values.v[k]), rounded_to_upper(values.v[k + 1]));
      store_bytes(bfloats + 2 * i + 16 * k, _mm256_permute4x64_epi64(words, 0xd8));
    }
    return values.nan();
  };
  by_32(n, step, [=](std::size_t i) { plain::to_bfloats(x + i, 32, bfloats + 2 * i); });
}

// Of 8 magnitudes, the codes of the small float, 7 - mantissa bits to the left. To a magnitude a number is added whose last
// place is worth the small float's last place there, so the sum is rounded where it should be: its lower half holds the
// significand with its leading one, its upper half the exponent. The small float's exponent bias is in the number, too, as
// an even amount of last places, which are taken as negative.
template <class Format>
inline __m256i shifted_minifloats(__m256i magnitude) {
  constexpr int kMantissa = 23 - Format::kShift, kBias = (Format::kRebias + 1 + Format::kShift) << kMantissa;
  const __m256i least = _mm256_set1_epi32((Format::kRebias + 1) << 23);
  const __m256i power = _mm256_max_epi32(_mm256_and_si256(magnitude, _mm256_set1_epi32(kInfBits)), least);
  const __m256 places = _mm256_set1_ps(bits_float(((127 + Format::kShift) << 23) + 65536 - kBias));
  const __m256 sum = _mm256_fmadd_ps(_mm256_castsi256_ps(power), places, _mm256_castsi256_ps(magnitude));
  return _mm256_madd_epi16(_mm256_castps_si256(sum), _mm256_set1_epi32((1 << 16) | (128 >> kMantissa)));
}

// 32 small floats, signs at bit kSignBit, of values clamped to ±largest.
template <class Format, std::uint32_t kSignBit>
inline __m256i minifloats(const Values32& values, float largest) {
  constexpr int kMantissa = 23 - Format::kShift;
  const __m256i top = _mm256_set1_epi8(static_cast<char>(Format::encode(largest))), all = _mm256_set1_epi32(0x7fffffff);
  const auto bits = [&](int k) { return _mm256_castps_si256(values.v[k]); };
  const auto each = [&](int k) { return shifted_minifloats<Format>(_mm256_and_si256(bits(k), all)); };
  const auto codes = [&](int k) { return _mm256_srli_epi16(_mm256_packs_epi32(each(k), each(k + 1)), 7 - kMantissa); };
  const __m256i magnitudes = _mm256_min_epu8(_mm256_packus_epi16(codes(0), codes(2)), top);  // codes only grow: clamped last
  const __m256i signs = _mm256_packs_epi16(_mm256_packs_epi32(bits(0), bits(1)), _mm256_packs_epi32(bits(2), bits(3)));
  const __m256i sign = _mm256_srli_epi16(_mm256_and_si256(signs, _mm256_set1_epi8(static_cast<char>(0x80))), 7 - kSignBit);
  return in_order(_mm256_or_si256(magnitudes, sign));
}

template <class Format, std::uint32_t kSignBit>
inline void minifloats32(const float* x, float inverse, float largest, std::uint8_t* codes) {
  store_bytes(codes, minifloats<Format, kSignBit>(Values32(x, _mm256_set1_ps(inverse)), largest));
}

template <class Format>
inline void to_eights(const float* x, std::size_t n, float largest, std::uint8_t* codes) {
  const auto step = [=](std::size_t i) {
    const Values32 values(x + i);
    store_bytes(codes + i, minifloats<Format, 7>(values, largest));
    return values.nan();
  };
  by_32(n, step, [=](std::size_t i) { plain::to_eights<Format>(x + i, 32, largest, codes + i); });
}

inline void from_halves(const std::uint8_t* halves, std::size_t n, float* y) {
  const auto step = [=](std::size_t i) {
    const auto* in = reinterpret_cast<const __m128i*>(halves + 2 * i);
    for (int k = 0; k < 4; ++k) _mm256_storeu_ps(y + i + 8 * k, _mm256_cvtph_ps(_mm_loadu_si128(in + k)));
    const __m256i all = _mm256_set1_epi16(0x7fff), infinity = _mm256_set1_epi16(0x7c00);
    const __m256i low = _mm256_cmpgt_epi16(_mm256_and_si256(load_bytes(in), all), infinity);
    return _mm256_or_si256(low, _mm256_cmpgt_epi16(_mm256_and_si256(load_bytes(in + 2), all), infinity));
  };
  by_32(n, step, [=](std::size_t i) { plain::from_halves(halves + 2 * i, 32, y + i); });
}

// Of 32 bytes, the upper ones of 16-bit numbers, the floats that `out` makes of the halves that `half` makes of those.
template <class Half, class Out>
inline void floats_of_bytes32(__m256i codes, float* y, Half half, Out out) {
  const __m256i none = _mm256_setzero_si256(), turned = _mm256_permute4x64_epi64(codes, 0xd8);
  const __m256i low = half(_mm256_unpacklo_epi8(none, turned)), high = half(_mm256_unpackhi_epi8(none, turned));
  const auto put = [&](int i, __m128i halves) { _mm256_storeu_ps(y + i, out(_mm256_cvtph_ps(halves))); };
  put(0, _mm256_castsi256_si128(low));
  put(8, _mm256_extracti128_si256(low, 1));
  put(16, _mm256_castsi256_si128(high));
  put(24, _mm256_extracti128_si256(high, 1));
}

// e4m3 has one exponent bit less than a half: a shift puts it right but for the bias.
template <class Out>
inline void floats_of_e4m3_32(__m256i codes, float* y, Out out) {
  const auto half = [](__m256i upper) {
    return _mm256_and_si256(_mm256_srai_epi16(upper, 1), _mm256_set1_epi16(static_cast<short>(0xbfff)));
  };
  floats_of_bytes32(codes, y, half, [=](__m256 value) { return out(_mm256_mul_ps(value, _mm256_set1_ps(256.0f))); });
}

inline __m256i magnitude_above(__m256i codes, char most) {
  return _mm256_cmpgt_epi8(_mm256_and_si256(codes, _mm256_set1_epi8(0x7f)), _mm256_set1_epi8(most));
}

inline void from_e4m3(const std::uint8_t* in, std::size_t n, float* y) {
  const auto step = [=](std::size_t i) {
    const __m256i codes = load_bytes(in + i);
    floats_of_e4m3_32(codes, y + i, [](__m256 value) { return value; });
    return magnitude_above(codes, 0x7e);
  };
  by_32(n, step, [=](std::size_t i) { plain::from_e4m3(in + i, 32, y + i); });
}

inline void scaled_e4m3_32(const std::uint8_t* in, float scale, float* y) {
  const __m256 by = _mm256_set1_ps(scale);
  const auto step = [=](std::size_t) {
    const __m256i codes = load_bytes(in);
    floats_of_e4m3_32(codes, y, [=](__m256 value) { return _mm256_mul_ps(by, value); });
    return magnitude_above(codes, 0x7e);
  };
  by_32(32, step, [=](std::size_t) { plain::scaled_e4m3_32(in, scale, y); });
}

// e5m2 is the upper byte of a half.
inline void from_e5m2(const std::uint8_t* in, std::size_t n, float* y) {
  const auto step = [=](std::size_t i) {
    const __m256i codes = load_bytes(in + i);
    floats_of_bytes32(codes, y + i, [](__m256i upper) { return upper; }, [](__m256 value) { return value; });
    return magnitude_above(codes, 0x7c);
  };
  by_32(n, step, [=](std::size_t i) { plain::from_e5m2(in + i, 32, y + i); });
}

inline void to_halves16(const float* x, std::uint8_t* halves) {
  const __m256 a = _mm256_loadu_ps(x), b = _mm256_loadu_ps(x + 8);
  if (any(_mm256_castps_si256(_mm256_cmp_ps(a, b, _CMP_UNORD_Q)))) return plain::to_halves16(x, halves);
  store_bytes(halves, _mm256_setr_m128i(as_halves(a), as_halves(b)));
}

}  // namespace avx2
}  // namespace
}  // namespace scrimp
