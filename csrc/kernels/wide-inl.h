// 64 bytes of float or double as one value, held in as many registers as the ISA needs, so that sums have one order of
// lanes (16 floats, 8 doubles) everywhere. Compiled once per ISA: no std template, unnamed namespace.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "core/hd.h"
#if defined(__x86_64__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // of the header itself, gcc PR105593
#include <immintrin.h>
#pragma GCC diagnostic pop
#endif

#pragma GCC diagnostic ignored "-Wpsabi"  // vectors never cross a call that is not inlined

namespace scrimp {
namespace {

#if defined(__AVX512F__)
constexpr int kNativeBytes = 64;
#elif defined(__AVX2__)
constexpr int kNativeBytes = 32;
#else
constexpr int kNativeBytes = 16;
#endif

template <class T>
struct NativeOf;
template <>
struct NativeOf<float> {
  typedef float Type __attribute__((vector_size(kNativeBytes)));
};
template <>
struct NativeOf<double> {
  typedef double Type __attribute__((vector_size(kNativeBytes)));
};
template <class T>
using Native = typename NativeOf<T>::Type;

template <class T>
SCRIMP_HD Native<T> load_native(const T* p) {
  Native<T> v;
  memcpy(&v, p, sizeof v);
  return v;
}

// A value that stays in its register: gcc would rather read it from memory at every use.
template <class V>
SCRIMP_HD V loaded_once(V v) {
#if defined(__x86_64__) && defined(__GNUC__)
  asm("" : "+v"(v));
#endif
  return v;
}

#if defined(__AVX512F__)
SCRIMP_HD __m512 load_native(const std::int8_t* p, float) {
  return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
}
SCRIMP_HD __m512d load_native(const std::int8_t* p, double) {
  return _mm512_cvtepi32_pd(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
}
SCRIMP_HD __m512d load_native(const float* p, double) { return _mm512_cvtps_pd(_mm256_loadu_ps(p)); }
// The first n values, fewer than a register holds; the others are 0.
SCRIMP_HD unsigned first_bits(std::size_t n) { return (1u << n) - 1; }
SCRIMP_HD __m512 load_part(const float* p, std::size_t n, float) { return _mm512_maskz_loadu_ps(static_cast<__mmask16>(first_bits(n)), p); }
SCRIMP_HD __m512 load_part(const std::int8_t* p, std::size_t n, float) {
  return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_maskz_loadu_epi8(static_cast<__mmask16>(first_bits(n)), p)));
}
SCRIMP_HD __m512d load_part(const double* p, std::size_t n, double) { return _mm512_maskz_loadu_pd(static_cast<__mmask8>(first_bits(n)), p); }
SCRIMP_HD __m512d load_part(const float* p, std::size_t n, double) { return _mm512_cvtps_pd(_mm256_maskz_loadu_ps(static_cast<__mmask8>(first_bits(n)), p)); }
SCRIMP_HD __m512d load_part(const std::int8_t* p, std::size_t n, double) {
  return _mm512_cvtepi32_pd(_mm256_cvtepi8_epi32(_mm_maskz_loadu_epi8(static_cast<__mmask16>(first_bits(n)), p)));
}
SCRIMP_HD void store_part(float* p, std::size_t n, __m512 v) { _mm512_mask_storeu_ps(p, static_cast<__mmask16>(first_bits(n)), v); }
SCRIMP_HD void store_part(double* p, std::size_t n, __m512d v) { _mm512_mask_storeu_pd(p, static_cast<__mmask8>(first_bits(n)), v); }
#elif defined(__AVX2__)
SCRIMP_HD __m256 load_native(const std::int8_t* p, float) {
  return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
}
SCRIMP_HD __m256d load_native(const std::int8_t* p, double) {
  int four;
  memcpy(&four, p, sizeof four);
  return _mm256_cvtepi32_pd(_mm_cvtepi8_epi32(_mm_cvtsi32_si128(four)));
}
SCRIMP_HD __m256d load_native(const float* p, double) { return _mm256_cvtps_pd(_mm_loadu_ps(p)); }
// -1 in the first n lanes of 32 bits, or of 64.
SCRIMP_HD __m256i first_words(std::size_t n) {
  const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(n)), lane);
}
SCRIMP_HD __m256i first_pairs(std::size_t n) {
  return _mm256_cmpgt_epi64(_mm256_set1_epi64x(static_cast<long long>(n)), _mm256_setr_epi64x(0, 1, 2, 3));
}
// The first n <= 8 codes, the others 0, without a look at what lies behind them.
SCRIMP_HD __m128i first_codes(const std::int8_t* p, std::size_t n) {
  std::uint64_t codes = 0;
  if (n >= 8) return _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p));
  if (n >= 4) {  // two fours that overlap
    std::uint32_t low, high;
    memcpy(&low, p, sizeof low);
    memcpy(&high, p + n - 4, sizeof high);
    codes = low | static_cast<std::uint64_t>(high) << (8 * (n - 4));
  } else {
    for (std::size_t i = 0; i < n; ++i) codes |= static_cast<std::uint64_t>(static_cast<std::uint8_t>(p[i])) << (8 * i);
  }
  return _mm_cvtsi64_si128(static_cast<long long>(codes));
}
// The first n values, as many as a register holds at most; the others are 0.
SCRIMP_HD __m256 load_part(const float* p, std::size_t n, float) { return _mm256_maskload_ps(p, first_words(n)); }
SCRIMP_HD __m256 load_part(const std::int8_t* p, std::size_t n, float) {
  return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(first_codes(p, n)));
}
SCRIMP_HD __m256d load_part(const double* p, std::size_t n, double) { return _mm256_maskload_pd(p, first_pairs(n)); }
SCRIMP_HD __m256d load_part(const float* p, std::size_t n, double) {
  return _mm256_cvtps_pd(_mm_maskload_ps(p, _mm256_castsi256_si128(first_words(n))));
}
SCRIMP_HD __m256d load_part(const std::int8_t* p, std::size_t n, double) {
  return _mm256_cvtepi32_pd(_mm_cvtepi8_epi32(first_codes(p, n)));
}
SCRIMP_HD void store_part(float* p, std::size_t n, __m256 v) { _mm256_maskstore_ps(p, first_words(n), v); }
SCRIMP_HD void store_part(double* p, std::size_t n, __m256d v) { _mm256_maskstore_pd(p, first_pairs(n), v); }
#elif defined(__SSE4_1__)
SCRIMP_HD __m128 load_native(const std::int8_t* p, float) {
  int four;
  memcpy(&four, p, sizeof four);
  return _mm_cvtepi32_ps(_mm_cvtepi8_epi32(_mm_cvtsi32_si128(four)));
}
SCRIMP_HD __m128d load_native(const std::int8_t* p, double) {
  std::uint16_t two;
  memcpy(&two, p, sizeof two);
  return _mm_cvtepi32_pd(_mm_cvtepi8_epi32(_mm_cvtsi32_si128(two)));
}
SCRIMP_HD __m128d load_native(const float* p, double) {
  std::int64_t two;  // loads of a double want its alignment
  memcpy(&two, p, sizeof two);
  return _mm_cvtps_pd(_mm_castsi128_ps(_mm_cvtsi64_si128(two)));
}
#else
template <class E, class T>
SCRIMP_HD Native<T> load_native(const E* p, T) {
  Native<T> v;
  for (int i = 0; i < static_cast<int>(kNativeBytes / sizeof(T)); ++i) v[i] = static_cast<T>(p[i]);
  return v;
}
#endif
SCRIMP_HD Native<float> load_native(const float* p, float) { return load_native(p); }
SCRIMP_HD Native<double> load_native(const double* p, double) { return load_native(p); }

// Past the caches, to a multiple of the register's size.
template <class V>
inline void stream_native(void* to, V value) {
#if defined(__AVX512F__)
  _mm512_stream_si512(static_cast<__m512i*>(to), (__m512i)value);
#elif defined(__AVX2__)
  _mm256_stream_si256(static_cast<__m256i*>(to), (__m256i)value);
#elif defined(__x86_64__)
  _mm_stream_si128(static_cast<__m128i*>(to), (__m128i)value);
#else
  memcpy(to, &value, sizeof value);
#endif
}

// Whoever looks after a barrier sees what was streamed.
inline void end_streaming() {
#if defined(__x86_64__)
  _mm_sfence();
#endif
}

template <class T>
struct Wide {
  static constexpr std::size_t kLanes = 64 / sizeof(T);
  static constexpr int kParts = 64 / kNativeBytes;
  static constexpr std::size_t kStep = kLanes / kParts;
  Native<T> part[kParts];

  static SCRIMP_HD Wide zero() {
    Wide v;
    for (int i = 0; i < kParts; ++i) v.part[i] = Native<T>{};
    return v;
  }
  static SCRIMP_HD Wide all(T x) {
    Wide v;
    for (int i = 0; i < kParts; ++i) v.part[i] = x - Native<T>{};  // not +: that would turn −0 into 0 at a cost
    return v;
  }
  // kLanes values of type E, converted to T.
  template <class E>
  static SCRIMP_HD Wide load(const E* p) {
    Wide v;
    for (int i = 0; i < kParts; ++i) v.part[i] = load_native(p + i * kStep, T{});
    return v;
  }
  // The first n < kLanes values of type E, the others 0.
  template <class E>
  static SCRIMP_HD Wide first(const E* p, std::size_t n) {
#if defined(__AVX512F__)
    Wide v;
    v.part[0] = load_part(p, n, T{});
    return v;
#elif defined(__AVX2__)
    Wide v;
    v.part[0] = load_part(p, n, T{});
    v.part[1] = n > kStep ? load_part(p + kStep, n - kStep, T{}) : Native<T>{};
    return v;
#else
    T values[kLanes] = {};
    for (std::size_t i = 0; i < n; ++i) values[i] = static_cast<T>(p[i]);
    return load(values);
#endif
  }
  SCRIMP_HD void store(T* p) const {
    for (int i = 0; i < kParts; ++i) memcpy(p + i * kStep, &part[i], sizeof part[i]);  // whole registers
  }
  // The first n < kLanes values.
  SCRIMP_HD void store_first(T* p, std::size_t n) const {
#if defined(__AVX512F__)
    store_part(p, n, part[0]);
#elif defined(__AVX2__)
    store_part(p, n, part[0]);
    if (n > kStep) store_part(p + kStep, n - kStep, part[1]);
#else
    T values[kLanes];
    store(values);
    memcpy(p, values, n * sizeof(T));
#endif
  }

  friend SCRIMP_HD Wide operator+(Wide a, const Wide& b) {
    for (int i = 0; i < kParts; ++i) a.part[i] = a.part[i] + b.part[i];
    return a;
  }
  friend SCRIMP_HD Wide operator-(Wide a, const Wide& b) {
    for (int i = 0; i < kParts; ++i) a.part[i] = a.part[i] - b.part[i];
    return a;
  }
  friend SCRIMP_HD Wide operator*(Wide a, const Wide& b) {
    for (int i = 0; i < kParts; ++i) a.part[i] = a.part[i] * b.part[i];
    return a;
  }
};

// Sums of the lanes: halves added pairwise, the same tree on every ISA.
#if defined(__SSE4_1__)
// The last 128 bits of that tree.
SCRIMP_HD __m128 last_lanes(const Wide<float>& v) {
#if defined(__AVX512F__)
  const __m512 x = v.part[0];
  const __m256 half = _mm256_add_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps(x, 1));
  return _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
#elif defined(__AVX2__)
  const __m256 half = v.part[0] + v.part[1];
  return _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
#else
  return (v.part[0] + v.part[2]) + (v.part[1] + v.part[3]);
#endif
}

SCRIMP_HD __m128d last_lanes(const Wide<double>& v) {
#if defined(__AVX512F__)
  const __m512d x = v.part[0];
  const __m256d half = _mm256_add_pd(_mm512_castpd512_pd256(x), _mm512_extractf64x4_pd(x, 1));
  return _mm_add_pd(_mm256_castpd256_pd128(half), _mm256_extractf128_pd(half, 1));
#elif defined(__AVX2__)
  const __m256d half = v.part[0] + v.part[1];
  return _mm_add_pd(_mm256_castpd256_pd128(half), _mm256_extractf128_pd(half, 1));
#else
  return (v.part[0] + v.part[2]) + (v.part[1] + v.part[3]);
#endif
}

// In registers: written out, gcc goes through memory and waits eight times for its own stores.
SCRIMP_HD float sum_of_lanes(const Wide<float>& v) {
  const __m128 four = last_lanes(v), two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}
SCRIMP_HD double sum_of_lanes(const Wide<double>& v) {
  const __m128d two = last_lanes(v);
  return _mm_cvtsd_f64(_mm_add_sd(two, _mm_unpackhi_pd(two, two)));
}

// Sums of two rows' lanes; equal to sum_of_lanes of each.
SCRIMP_HD void sum_two(const Wide<float>& a, const Wide<float>& b, float* out) {
  const __m128 x = last_lanes(a), y = last_lanes(b);
  const __m128 pairs = _mm_add_ps(_mm_movelh_ps(x, y), _mm_movehl_ps(y, x));  // x0+x2 x1+x3 y0+y2 y1+y3
  const __m128 sums = _mm_add_ps(pairs, _mm_movehdup_ps(pairs));
  out[0] = _mm_cvtss_f32(sums);
  out[1] = _mm_cvtss_f32(_mm_movehl_ps(sums, sums));
}

SCRIMP_HD void sum_two(const Wide<double>& a, const Wide<double>& b, double* out) {
  const __m128d x = last_lanes(a), y = last_lanes(b);
  _mm_storeu_pd(out, _mm_add_pd(_mm_unpacklo_pd(x, y), _mm_unpackhi_pd(x, y)));
}
#else
template <class T>
SCRIMP_HD T sum_of_lanes(const Wide<T>& v) {
  T lane[Wide<T>::kLanes];
  v.store(lane);
  for (std::size_t width = Wide<T>::kLanes / 2; width; width /= 2)
    for (std::size_t j = 0; j < width; ++j) lane[j] += lane[j + width];
  return lane[0];
}

template <class T>
SCRIMP_HD void sum_two(const Wide<T>& a, const Wide<T>& b, T* out) {
  out[0] = sum_of_lanes(a);
  out[1] = sum_of_lanes(b);
}
#endif

}  // namespace
}  // namespace scrimp
