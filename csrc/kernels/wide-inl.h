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

#if defined(__AVX512F__)
SCRIMP_HD __m512 load_native(const std::int8_t* p, float) {
  return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
}
SCRIMP_HD __m512d load_native(const std::int8_t* p, double) {
  return _mm512_cvtepi32_pd(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
}
SCRIMP_HD __m512d load_native(const float* p, double) { return _mm512_cvtps_pd(_mm256_loadu_ps(p)); }
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
  return _mm_cvtps_pd(_mm_castpd_ps(_mm_load_sd(reinterpret_cast<const double*>(p))));
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
    for (int i = 0; i < kParts; ++i) v.part[i] = Native<T>{} + x;
    return v;
  }
  // kLanes values of type E, converted to T.
  template <class E>
  static SCRIMP_HD Wide load(const E* p) {
    Wide v;
    for (int i = 0; i < kParts; ++i) v.part[i] = load_native(p + i * kStep, T{});
    return v;
  }
  SCRIMP_HD void store(T* p) const {
    for (int i = 0; i < kParts; ++i) memcpy(p + i * kStep, &part[i], sizeof part[i]);  // whole registers
  }

  friend SCRIMP_HD Wide operator+(Wide a, const Wide& b) {
    for (int i = 0; i < kParts; ++i) a.part[i] = a.part[i] + b.part[i];
    return a;
  }
  friend SCRIMP_HD Wide operator*(Wide a, const Wide& b) {
    for (int i = 0; i < kParts; ++i) a.part[i] = a.part[i] * b.part[i];
    return a;
  }
};

// Sum of the lanes: halves added pairwise, the same tree on every ISA.
template <class T>
SCRIMP_HD T sum_of_lanes(T* lane) {
#pragma GCC unroll 4
  for (std::size_t width = Wide<T>::kLanes / 2; width; width /= 2)
    for (std::size_t j = 0; j < width; ++j) lane[j] += lane[j + width];
  return lane[0];
}

}  // namespace
}  // namespace scrimp
