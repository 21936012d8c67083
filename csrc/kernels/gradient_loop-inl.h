// The fused gradient: eight rows at a time are multiplied by the weights, turned into slopes by the loss, and added to
// the gradient while they are still in cache. Compiled once per ISA: no std template, unnamed namespace.
#pragma once
#include "kernels/linear_table.h"
#include "kernels/wide-inl.h"
#include "losses.h"

namespace scrimp {
namespace {

// Eight rows from row i on, of n; the last row stands in for absent ones.
template <class E>
struct RowBlock {
  const E* row[kBlockRows];
  std::size_t n;

  RowBlock(const E* x, std::ptrdiff_t stride, std::size_t i, std::size_t n_rows) : n(n_rows - i < kBlockRows ? n_rows - i : kBlockRows) {
    for (std::size_t r = 0; r < kBlockRows; ++r) row[r] = x + static_cast<std::ptrdiff_t>(i + (r < n ? r : n - 1)) * stride;
  }
};

// Rows whose sums are held in registers at once; it has no influence on the result.
constexpr int kDotRows = kNativeBytes == 64 ? 8 : kNativeBytes == 32 ? 4 : 2;

// z[r] = Σ_j row[r][j]·w[j] for kDotRows rows: lane j mod kLanes first, then the lanes pairwise.
template <class E, class T>
inline void dot_rows(const E* const* row, std::size_t d, const T* w, T* z) {
  using W = Wide<T>;
  W sum[kDotRows];
#pragma GCC unroll 8
  for (int r = 0; r < kDotRows; ++r) sum[r] = W::zero();
  std::size_t j = 0;
  for (; j + W::kLanes <= d; j += W::kLanes) {
    const W wj = W::load(w + j);
#pragma GCC unroll 8
    for (int r = 0; r < kDotRows; ++r) sum[r] = sum[r] + W::load(row[r] + j) * wj;
  }
  if (j < d) {
    T w_end[W::kLanes] = {}, row_end[W::kLanes] = {};
    memcpy(w_end, w + j, (d - j) * sizeof(T));
#pragma GCC unroll 8
    for (int r = 0; r < kDotRows; ++r) {
      for (std::size_t i = j; i < d; ++i) row_end[i - j] = static_cast<T>(row[r][i]);
      sum[r] = sum[r] + W::load(row_end) * W::load(w_end);
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < kDotRows; r += 2) sum_two(sum[r], sum[r + 1], z + r);
}

// ((0+1)+(2+3)) + ((4+5)+(6+7))
template <class V>
SCRIMP_HD V sum_of_eight(const V* v) {
  return ((v[0] + v[1]) + (v[2] + v[3])) + ((v[4] + v[5]) + (v[6] + v[7]));
}

// Address of what to fetch while a block is worked on: rows at least 16 KB ahead, if they lie one after the other.
template <class E>
SCRIMP_HD std::uintptr_t ahead_of(const E* row, std::size_t d) {
  const std::size_t block = kBlockRows * d * sizeof(E);
  return reinterpret_cast<std::uintptr_t>(row) + (block >= 16384 ? block : 16384);
}

// g[j] += Σ_r slope[r]·row[r][j] over the eight rows, while rows from `ahead` on are fetched (0: none).
template <class E, class T>
inline void add_rows(const E* const* row, std::size_t d, const T* slope, T* g, std::uintptr_t ahead) {
  using W = Wide<T>;
  constexpr std::size_t kStepBytes = kBlockRows * W::kLanes * sizeof(E);
  W factor[kBlockRows];
#pragma GCC unroll 8
  for (std::size_t r = 0; r < kBlockRows; ++r) factor[r] = W::all(slope[r]);
  std::size_t j = 0;
  for (; j + W::kLanes <= d; j += W::kLanes) {
    W product[kBlockRows];
#pragma GCC unroll 8
    for (std::size_t r = 0; r < kBlockRows; ++r) product[r] = W::load(row[r] + j) * factor[r];
    (W::load(g + j) + sum_of_eight(product)).store(g + j);
    if (!ahead) continue;
#pragma GCC unroll 8
    for (std::size_t line = 0; line < kStepBytes; line += 64) __builtin_prefetch(reinterpret_cast<const void*>(ahead + line));
    ahead += kStepBytes;
  }
  for (; j < d; ++j) {
    T product[kBlockRows];
    for (std::size_t r = 0; r < kBlockRows; ++r) product[r] = static_cast<T>(row[r][j]) * slope[r];
    g[j] += sum_of_eight(product);
  }
}

void cross_rows(const CrossRun& run) {
  double y[kBlockRows];
  for (std::size_t i = 0; i < run.n; i += kBlockRows) {
    const RowBlock<std::int8_t> block(run.x, run.stride, i, run.n);
    for (std::size_t o = 0; o < run.k; ++o) {
      for (std::size_t r = 0; r < kBlockRows; ++r) y[r] = r < block.n ? run.y[(i + r) * run.k + o] : 0.0;
      add_rows<std::int8_t, double>(block.row, run.d, y, run.out + o * run.d, 0);
    }
  }
}

// slope[o][r] and the sum of the weighted values of rows i … i+n; slopes of absent rows are 0.
template <class L, class E, class T>
inline void scalar_slopes(const GradientRun<E, T>& run, std::size_t i, std::size_t n, const T* z, T* slope) {
  for (std::size_t o = 0; o < run.k; ++o) {
    T value[kBlockRows] = {}, *s = slope + o * kBlockRows;
    T y[kBlockRows] = {};
    for (std::size_t r = 0; r < n; ++r) y[r] = run.y[(i + r) * run.k + o];
    for (std::size_t r = 0; r < kBlockRows; ++r)
      value[r] = L::value(z[o * kBlockRows + r] + run.bias[o], y[r], run.parameter, s[r]);
    for (std::size_t r = 0; r < n; ++r) {
      const T weight = run.weight ? run.weight[i + r] : T{1};
      s[r] *= weight;
      *run.value += static_cast<double>(weight) * value[r];
    }
    for (std::size_t r = n; r < kBlockRows; ++r) s[r] = 0;
  }
}

template <class L, class E, class T>
inline void row_slopes(const GradientRun<E, T>& run, std::size_t i, std::size_t n, const T* z, T* slope) {
  for (std::size_t r = 0; r < n; ++r) {
    const T* y = run.y + (i + r) * (run.y_is_class ? 1 : run.k);
    const T weight = run.weight ? run.weight[i + r] : T{1};
    *run.value += static_cast<double>(weight) * L::value(z + r, run.bias, y, run.k, run.y_is_class, slope + r);
    for (std::size_t o = 0; o < run.k; ++o) slope[o * kBlockRows + r] *= weight;
  }
  for (std::size_t o = 0; o < run.k; ++o)
    for (std::size_t r = n; r < kBlockRows; ++r) slope[o * kBlockRows + r] = 0;
}

// z[o][r] for all outputs and the eight rows.
template <class E, class T>
inline void dot_block(const RowBlock<E>& block, std::size_t d, std::size_t k, const T* w, T* z) {
  for (std::size_t o = 0; o < k; ++o)
    for (std::size_t r = 0; r < kBlockRows; r += kDotRows)
      dot_rows<E, T>(block.row + r, d, w + o * d, z + o * kBlockRows + r);
}

template <class E>
void product_rows(const ProductRun<E>& run) {
  float z[kBlockRows];
  for (std::size_t i = 0; i < run.n; i += kBlockRows) {
    const RowBlock<E> block(run.x, run.stride, i, run.n);
    for (std::size_t o = 0; o < run.k; ++o) {
      dot_block<E, float>(block, run.d, 1, run.w + o * run.d, z);
      for (std::size_t r = 0; r < block.n; ++r) run.out[(i + r) * run.k + o] = z[r] + run.bias[o];
    }
  }
}

template <class L, bool kOverOutputs, class E, class T>
void gradient_rows(const GradientRun<E, T>& run) {
  T *z = run.z, *slope = run.z + run.k * kBlockRows;
  for (std::size_t i = 0; i < run.n; i += kBlockRows) {
    const RowBlock<E> block(run.x, run.stride, i, run.n);
    dot_block<E, T>(block, run.d, run.k, run.w, z);
    if constexpr (kOverOutputs) {
      row_slopes<L>(run, i, block.n, z, slope);
    } else {
      scalar_slopes<L>(run, i, block.n, z, slope);
    }
    for (std::size_t o = 0; o < run.k; ++o) {
      const T* s = slope + o * kBlockRows;
      for (std::size_t r = 0; r < kBlockRows; ++r) run.g0[o] += static_cast<double>(s[r]);
      add_rows<E, T>(block.row, run.d, s, run.g + o * run.d, run.in_place && o == 0 ? ahead_of(block.row[0], run.d) : 0);
    }
  }
}

#define SCRIMP_LOSS_ROW(L, over_outputs)                                                                            \
  {L::kName, over_outputs, &gradient_rows<L, over_outputs, float, float>,                                           \
   &gradient_rows<L, over_outputs, std::int8_t, float>, &gradient_rows<L, over_outputs, float, double>,             \
   &gradient_rows<L, over_outputs, double, double>, &gradient_rows<L, over_outputs, std::int8_t, double>},
#define SCRIMP_SCALAR_ROW(L) SCRIMP_LOSS_ROW(L, false)
#define SCRIMP_OUTPUTS_ROW(L) SCRIMP_LOSS_ROW(L, true)
constexpr LossKernels kLosses[] = {SCRIMP_SCALAR_LOSSES(SCRIMP_SCALAR_ROW) SCRIMP_ROW_LOSSES(SCRIMP_OUTPUTS_ROW)};
#undef SCRIMP_LOSS_ROW
#undef SCRIMP_SCALAR_ROW
#undef SCRIMP_OUTPUTS_ROW

}  // namespace
}  // namespace scrimp
