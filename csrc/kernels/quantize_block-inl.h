// The inner loop of rounding float rows to codes: eight rows, a register of columns at a time, with their noise and exact
// sums in registers. Equal to the loops of matrix_loop-inl.h, which take all other rows. Compiled once per ISA: no std
// template, unnamed namespace.
#pragma once
#include "kernels/leaf-inl.h"
#include "kernels/linear_table.h"
#include "kernels/wide-inl.h"

namespace scrimp {
namespace {

constexpr std::size_t kRoundLanes = kNativeBytes / sizeof(float);
typedef std::int32_t RoundInts __attribute__((vector_size(kNativeBytes)));
typedef std::uint32_t RoundBits __attribute__((vector_size(kNativeBytes)));
typedef std::uint16_t RoundDraws __attribute__((vector_size(kNativeBytes / 2)));
typedef std::int8_t RoundCodes __attribute__((vector_size(kRoundLanes)));

// round_even of every lane.
SCRIMP_HD RoundInts round_even_lanes(Native<float> x) {
#if defined(__AVX512F__)
  return (RoundInts)_mm512_cvtps_epi32((__m512)x);
#elif defined(__AVX2__)
  return (RoundInts)_mm256_cvtps_epi32((__m256)x);
#elif defined(__SSE2__)
  return (RoundInts)_mm_cvtps_epi32((__m128)x);
#else
  RoundInts out;
  for (std::size_t i = 0; i < kRoundLanes; ++i) out[i] = round_even(x[i]);
  return out;
#endif
}

// Two registers of doubles, rounded to one of floats.
SCRIMP_HD Native<float> join_as_float(Native<double> first, Native<double> last) {
#if defined(__AVX512F__)
  return (Native<float>)_mm512_insertf32x8(_mm512_castps256_ps512(_mm512_cvtpd_ps((__m512d)first)), _mm512_cvtpd_ps((__m512d)last), 1);
#elif defined(__AVX2__)
  return (Native<float>)_mm256_insertf128_ps(_mm256_castps128_ps256(_mm256_cvtpd_ps((__m256d)first)), _mm256_cvtpd_ps((__m256d)last), 1);
#elif defined(__SSE2__)
  return (Native<float>)_mm_movelh_ps(_mm_cvtpd_ps((__m128d)first), _mm_cvtpd_ps((__m128d)last));
#else
  Native<float> out;
  for (std::size_t i = 0; i < kRoundLanes / 2; ++i) {
    out[i] = static_cast<float>(first[i]);
    out[i + kRoundLanes / 2] = static_cast<float>(last[i]);
  }
  return out;
#endif
}

// Lanes of −128 … 127 as bytes.
SCRIMP_HD void store_bytes(RoundInts x, std::int8_t* p) {
#if defined(__AVX2__) && !defined(__AVX512F__)
  const __m128i halves = _mm_packs_epi32(_mm256_castsi256_si128((__m256i)x), _mm256_extracti128_si256((__m256i)x, 1));
  _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_packs_epi16(halves, halves));
#else
  const RoundCodes bytes = __builtin_convertvector(x, RoundCodes);
  memcpy(p, &bytes, sizeof bytes);
#endif
}

// `within` of every lane.
SCRIMP_HD Native<float> clamp_lanes(Native<float> x, float top) {
  const Native<float> zero = {}, most = zero + top;
#if defined(__AVX512F__)
  return (Native<float>)_mm512_min_ps(_mm512_max_ps((__m512)x, (__m512)zero), (__m512)most);
#elif defined(__AVX2__)
  return (Native<float>)_mm256_min_ps(_mm256_max_ps((__m256)x, (__m256)zero), (__m256)most);
#elif defined(__SSE2__)
  return (Native<float>)_mm_min_ps(_mm_max_ps((__m128)x, (__m128)zero), (__m128)most);
#else
  x = x > zero ? x : zero;
  return x < most ? x : most;
#endif
}

// Sums of f(1−f)·2³² in two parts: low + 2¹⁵·high. Two rows are added before they are cut: together at most 2³¹.
struct NoiseLanes {
  RoundBits low, high;

  static SCRIMP_HD RoundBits variance(RoundInts fixed) {
    const RoundBits fraction = (RoundBits)fixed & 0xffffu;
    return fraction * (65536u - fraction);
  }
  SCRIMP_HD void add(RoundInts fixed, RoundInts of_next_row) {
    const RoundBits both = variance(fixed) + variance(of_next_row);
    low += both & 0x7fffu;
    high += both >> 15;
  }
};

template <class V, class T>
SCRIMP_HD V load_lanes(const T* p) {
  V v;
  static_assert(sizeof v == kRoundLanes * sizeof(T));
  memcpy(&v, p, sizeof v);
  return v;
}

// Float values as doubles, in two registers.
struct DoubleLanes {
  static constexpr std::size_t kHalf = kRoundLanes / 2;
  Native<double> first, last;

  explicit DoubleLanes(const float* x) : first(load_native(x, double{})), last(load_native(x + kHalf, double{})) {}
  explicit DoubleLanes(const double* x) : first(load_native(x)), last(load_native(x + kHalf)) {}

  SCRIMP_HD void add(const DoubleLanes& x) {
    first += x.first;
    last += x.last;
  }
  SCRIMP_HD void store(double* x) const {
    memcpy(x, &first, sizeof first);
    memcpy(x + kHalf, &last, sizeof last);
  }
};

// A register of columns of the grids: values to steps, in units of 2⁻¹⁶ where rounding is stochastic, and steps to codes.
template <bool kStochastic>
struct GridLanes {
  static constexpr double kUnits = kStochastic ? 65536.0 : 1.0;
  DoubleLanes low, inverse;
  float top;
  std::int32_t centre;

  GridLanes(const QuantizeRun<float>& run, std::size_t j)
      : low(run.low + j), inverse(run.inverse + j), top(static_cast<float>(kStochastic ? run.levels << 16 : run.levels)), centre(run.centre) {
    inverse.first *= kUnits;
    inverse.last *= kUnits;
  }

  SCRIMP_HD RoundInts fixed(const DoubleLanes& x) const {
    const Native<float> steps = join_as_float((x.first - low.first) * inverse.first, (x.last - low.last) * inverse.last);
    return round_even_lanes(clamp_lanes(steps, top));
  }
  SCRIMP_HD void store(RoundInts code, std::int8_t* codes) const { store_bytes(code - centre, codes); }
};

inline void fetch_rows_after(const float* x, std::ptrdiff_t stride) {
  const auto ahead = static_cast<std::uintptr_t>(stride) * 2 * kBlockRows * sizeof(float);
  __builtin_prefetch(reinterpret_cast<const void*>(reinterpret_cast<std::uintptr_t>(x) + ahead));
}

// The columns j … j + kRoundLanes of eight rows; draws: the 16 random bits of each row's columns, if any.
template <bool kStochastic>
inline void quantize_lanes(const QuantizeRun<float>& run, const float* x, std::int8_t* codes, std::size_t j, const std::uint16_t* const* draws) {
  const GridLanes<kStochastic> grid(run, j);
  DoubleLanes sum(run.sum + j);
  RoundInts fixed[kBlockRows];
#pragma GCC unroll 8
  for (std::size_t r = 0; r < kBlockRows; ++r) {
    const float* row = x + static_cast<std::ptrdiff_t>(r) * run.stride + j;
    fetch_rows_after(row, run.stride);
    const DoubleLanes values(row);
    sum.add(values);
    fixed[r] = grid.fixed(values);
    RoundInts code = fixed[r];
    if constexpr (kStochastic) code = (code + __builtin_convertvector(load_lanes<RoundDraws>(draws[r] + j), RoundInts)) >> 16;
    grid.store(code, codes + r * run.d_all + j);
  }
  sum.store(run.sum + j);
  if constexpr (!kStochastic) return;
  NoiseLanes noise = {load_lanes<RoundBits>(run.noise + j), load_lanes<RoundBits>(run.noise_high + j)};
#pragma GCC unroll 4
  for (std::size_t r = 0; r < kBlockRows; r += 2) noise.add(fixed[r], fixed[r + 1]);
  memcpy(run.noise + j, &noise.low, sizeof noise.low);
  memcpy(run.noise_high + j, &noise.high, sizeof noise.high);
}

}  // namespace
}  // namespace scrimp
