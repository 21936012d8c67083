#pragma once
// Sums of plain numbers as the collectives need them: in the order of ranks, integers wrap, no NaN unnoticed. Loops that
// add are those of the ISA.
#include <bit>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "kernels/table.h"

namespace scrimp {

inline const FloatSums<float>& float_sums(const float*) { return active_table().sums->f32; }
inline const FloatSums<double>& float_sums(const double*) { return active_table().sums->f64; }
inline void sum_integers(const std::int32_t* a, const std::int32_t* b, std::size_t n, std::int32_t* total) {
  active_table().sums->sum_i32(a, b, n, total);
}
inline void sum_integers(const std::int64_t* a, const std::int64_t* b, std::size_t n, std::int64_t* total) {
  active_table().sums->sum_i64(a, b, n, total);
}

template <class T>
bool all_finite(const T* x, std::size_t n) {
  if constexpr (std::is_integral_v<T>) return true;
  else return float_sums(x).all_finite(x, n);
}

// Finite, and so far from the largest float that no codec's rounding makes it infinite.
inline bool is_tame(const float* x, std::size_t n) {
  std::int32_t wild = 0;
  for (std::size_t i = 0; i < n; ++i)
    wild |= (std::bit_cast<std::int32_t>(x[i]) & 0x7f800000) > 0x7e000000;  // signed: what every ISA can compare
  return !wild;
}

// total = a + b; total may be a.
template <class T>
void sum(const T* a, const T* b, std::size_t n, T* total) {
  if constexpr (std::is_integral_v<T>) sum_integers(a, b, n, total);
  else float_sums(a).sum(a, b, n, total);
}

template <class T>
void add(T* total, const T* x, std::size_t n) {
  sum(total, x, n, total);
}

// total /= size.
template <class T>
void divide(T* total, std::size_t n, int size) {
  float_sums(total).divide(total, n, size);
}

// total = a + b, and over `divisor`, in one pass; whether it is finite. `total` is `a` or apart from both.
template <class T>
bool sum_last(const T* a, const T* b, std::size_t n, int divisor, T* total) {
  if constexpr (std::is_integral_v<T>) {
    sum(a, b, n, total);
    return true;
  } else {
    return float_sums(a).sum_last(a, b, n, divisor, total);
  }
}

}  // namespace scrimp
