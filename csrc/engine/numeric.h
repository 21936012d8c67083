#pragma once
// Sums of plain numbers as the collectives need them: in the order of ranks, integers wrap, no NaN unnoticed. Loops that
// add are those of the ISA.
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

// to = x, and kept = x unless nullptr, all apart; past the caches with `stream`.
template <class T>
void copy_keeping(const T* x, std::size_t n, T* to, T* kept, bool stream) {
  using Words = std::uint32_t*;
  active_table().sums->copy_words(reinterpret_cast<const std::uint32_t*>(x), n * sizeof(T) / 4, reinterpret_cast<Words>(to),
                                  reinterpret_cast<Words>(kept), stream);
}

inline SumBoth<float> sum_both_of(float) { return active_table().sums->sum_both_f32; }
inline SumBoth<double> sum_both_of(double) { return active_table().sums->sum_both_f64; }
inline SumBoth<std::uint32_t> sum_both_of(std::uint32_t) { return active_table().sums->sum_both_u32; }
inline SumBoth<std::uint64_t> sum_both_of(std::uint64_t) { return active_table().sums->sum_both_u64; }

// x = x + other, or other + x with `other_first`, halved with `halve`; also in `other` with `back`. Whether it is finite. What
// was in x goes to `kept`, as above.
template <class T>
bool sum_both(T* x, T* other, bool other_first, bool back, std::size_t n, bool halve, T* kept, bool stream) {
  if constexpr (std::is_integral_v<T>) {  // as unsigned ones they wrap
    using U = std::make_unsigned_t<T>;
    const auto as_unsigned = [](T* p) { return reinterpret_cast<U*>(p); };
    return sum_both_of(U{})(as_unsigned(x), as_unsigned(other), other_first, back, n, 1, as_unsigned(kept), stream);
  } else {
    return sum_both_of(T{})(x, other, other_first, back, n, halve ? T(0.5) : T(1), kept, stream);
  }
}

}  // namespace scrimp
