#pragma once
// Sums of plain numbers: loops that the compiler vectorises for the ISA. Rounding is that of one addition and one product or
// quotient for each value, on every ISA.
#include "kernels/sums_table.h"

namespace scrimp {
namespace {

inline std::uint32_t is_nonfinite(float value) { return (__builtin_bit_cast(std::uint32_t, value) & 0x7f800000u) == 0x7f800000u; }
inline std::uint64_t is_nonfinite(double value) {
  constexpr std::uint64_t kExponent = 0x7ff0000000000000ull;
  return (__builtin_bit_cast(std::uint64_t, value) & kExponent) == kExponent;
}

inline float plus(float a, float b) { return a + b; }
inline double plus(double a, double b) { return a + b; }
inline std::int32_t plus(std::int32_t a, std::int32_t b) {
  return static_cast<std::int32_t>(static_cast<std::uint32_t>(a) + static_cast<std::uint32_t>(b));
}
inline std::int64_t plus(std::int64_t a, std::int64_t b) {
  return static_cast<std::int64_t>(static_cast<std::uint64_t>(a) + static_cast<std::uint64_t>(b));
}

// A power of two has an exact reciprocal, and the product is the same number.
inline bool has_exact_reciprocal(int divisor) { return (divisor & (divisor - 1)) == 0; }

template <class T>
bool all_finite_of(const T* x, std::size_t n) {
  auto bad = is_nonfinite(T{});
  for (std::size_t i = 0; i < n; ++i) bad |= is_nonfinite(x[i]);
  return !bad;
}

template <class T>
inline void sum_pass(const T* a, const T* b, std::size_t n, T* total) {
  for (std::size_t i = 0; i < n; ++i) total[i] = plus(a[i], b[i]);
}

// Arrays of one address are named once: where two names may overlap, loops run one value after the other.
template <class T>
void sum_of(const T* a, const T* b, std::size_t n, T* total) {
  if (a == total) return sum_pass(total, b, n, total);
  sum_pass(a, b, n, total);
}

template <class T>
void divide_by(T* total, std::size_t n, int size) {
  const T divisor = static_cast<T>(size), reciprocal = T{1} / divisor;
  if (has_exact_reciprocal(size)) {
    for (std::size_t i = 0; i < n; ++i) total[i] *= reciprocal;
  } else {
    for (std::size_t i = 0; i < n; ++i) total[i] /= divisor;
  }
}

template <class T>
inline bool last_pass(const T* a, const T* b, std::size_t n, T reciprocal, T* total) {
  auto bad = is_nonfinite(T{});
  for (std::size_t i = 0; i < n; ++i) {
    const T value = (a[i] + b[i]) * reciprocal;
    total[i] = value;
    bad |= is_nonfinite(value);
  }
  return !bad;
}

template <class T>
bool sum_last_of(const T* a, const T* b, std::size_t n, int divisor, T* total) {
  if (!has_exact_reciprocal(divisor)) {
    sum_of(a, b, n, total);
    divide_by(total, n, divisor);
    return all_finite_of(total, n);
  }
  const T reciprocal = T{1} / static_cast<T>(divisor);
  return a == total ? last_pass<T>(total, b, n, reciprocal, total) : last_pass(a, b, n, reciprocal, total);
}

}  // namespace
}  // namespace scrimp
