#pragma once
// What one ISA offers for sums of plain numbers, as collectives need them. Included by the files compiled per ISA, so no std
// template may appear here.
#include <cstddef>
#include <cstdint>

namespace scrimp {

template <class T>
struct FloatSums {
  bool (*all_finite)(const T* x, std::size_t n);
  void (*sum)(const T* a, const T* b, std::size_t n, T* total);  // total = a + b; total may be a
  void (*divide)(T* total, std::size_t n, int size);
  // total = a + b, and over `divisor`, in one pass; whether it is finite. total may be a.
  bool (*sum_last)(const T* a, const T* b, std::size_t n, int divisor, T* total);
};

// x = factor·(x + other), or factor·(other + x) with `other_first`; also in `other` with `back`. Whether it is finite. `kept`,
// where it is not nullptr, takes what was in x, past the caches with `stream`. No two of the arrays overlap.
template <class T>
using SumBoth = bool (*)(T* x, T* other, bool other_first, bool back, std::size_t n, T factor, T* kept, bool stream);

struct SumKernels {
  FloatSums<float> f32;
  FloatSums<double> f64;
  void (*sum_i32)(const std::int32_t* a, const std::int32_t* b, std::size_t n, std::int32_t* total);  // wraps
  void (*sum_i64)(const std::int64_t* a, const std::int64_t* b, std::size_t n, std::int64_t* total);
  void (*copy_words)(const std::uint32_t* x, std::size_t n, std::uint32_t* to, std::uint32_t* kept, bool stream);  // to = x
  SumBoth<float> sum_both_f32;
  SumBoth<double> sum_both_f64;
  SumBoth<std::uint32_t> sum_both_u32;  // integers wrap; the factor is 1
  SumBoth<std::uint64_t> sum_both_u64;
};

}  // namespace scrimp
