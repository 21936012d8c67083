// The fused gradient: eight rows at a time are multiplied by the weights, turned into slopes by the loss, and added to
// the gradient while they are still in cache. Compiled once per ISA: no std template, unnamed namespace.
#pragma once
#include "kernels/leaf-inl.h"
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

// Rows whose sums are held in registers at once, once they are in cache; it has no influence on the result.
constexpr int kDotRows = kNativeBytes == 64 ? 8 : kNativeBytes == 32 ? 4 : 2;

// sum[r] += Σ_j row[r][j]·w[j] for kRows rows: lane j mod kLanes.
template <int kRows, class E, class T>
inline void add_products(const E* const* row, std::size_t d, const T* w, Wide<T>* sum) {
  using W = Wide<T>;
  std::size_t j = 0;
  for (; j + W::kLanes <= d; j += W::kLanes) {
    const W wj = W::load(w + j);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) sum[r] = sum[r] + W::load(row[r] + j) * wj;
  }
  if (j == d) return;
  T w_end[W::kLanes] = {}, row_end[W::kLanes] = {};
  memcpy(w_end, w + j, (d - j) * sizeof(T));
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
    for (std::size_t i = j; i < d; ++i) row_end[i - j] = static_cast<T>(row[r][i]);
    sum[r] = sum[r] + W::load(row_end) * W::load(w_end);
  }
}

// Rows of nibbles as rows of their halves.
template <class H>
struct Half {
  const H* row[kBlockRows];

  explicit Half(const Nibbles* const* rows, std::size_t n) {
    for (std::size_t r = 0; r < n; ++r) row[r] = reinterpret_cast<const H*>(rows[r]);
  }
};

template <int kRows>
inline void add_products(const Nibbles* const* row, std::size_t d, const float* w, Wide<float>* sum) {
  add_products<kRows>(Half<LowNibble>(row, kRows).row, d / 2, w, sum);
  add_products<kRows>(Half<HighNibble>(row, kRows).row, d / 2, w + d / 2, sum);
}

// z[r] = Σ_j row[r][j]·w[j] for kRows rows, the lanes added pairwise.
template <int kRows, class E, class T>
inline void dot_rows(const E* const* row, std::size_t d, const T* w, T* z) {
  using W = Wide<T>;
  W sum[kRows];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) sum[r] = W::zero();
  add_products<kRows>(row, d, w, sum);
  if constexpr (kRows == 1) {
    z[0] = sum_of_lanes(sum[0]);
  } else {
#pragma GCC unroll 4
    for (int r = 0; r < kRows; r += 2) sum_two(sum[r], sum[r + 1], z + r);
  }
}

// ((0+1)+(2+3)) + ((4+5)+(6+7))
template <class V>
SCRIMP_HD V sum_of_eight(const V* v) {
  return ((v[0] + v[1]) + (v[2] + v[3])) + ((v[4] + v[5]) + (v[6] + v[7]));
}

// g[j] += Σ_r slope[r]·row[r][j] over the eight rows.
template <class E, class T>
inline void add_rows(const E* const* row, std::size_t d, const T* slope, T* g) {
  using W = Wide<T>;
  W factor[kBlockRows];
#pragma GCC unroll 8
  for (std::size_t r = 0; r < kBlockRows; ++r) factor[r] = W::all(slope[r]);
  std::size_t j = 0;
  for (; j + W::kLanes <= d; j += W::kLanes) {
    W product[kBlockRows];
#pragma GCC unroll 8
    for (std::size_t r = 0; r < kBlockRows; ++r) product[r] = W::load(row[r] + j) * factor[r];
    (W::load(g + j) + sum_of_eight(product)).store(g + j);
  }
  for (; j < d; ++j) {
    T product[kBlockRows];
    for (std::size_t r = 0; r < kBlockRows; ++r) product[r] = static_cast<T>(row[r][j]) * slope[r];
    g[j] += sum_of_eight(product);
  }
}

inline void add_rows(const Nibbles* const* row, std::size_t d, const float* slope, float* g) {
  add_rows(Half<LowNibble>(row, kBlockRows).row, d / 2, slope, g);
  add_rows(Half<HighNibble>(row, kBlockRows).row, d / 2, slope, g + d / 2);
}

void cross_rows(const CrossRun& run) {
  double y[kBlockRows];
  for (std::size_t i = 0; i < run.n; i += kBlockRows) {
    const RowBlock<std::int8_t> block(run.x, run.stride, i, run.n);
    for (std::size_t o = 0; o < run.k; ++o) {
      for (std::size_t r = 0; r < kBlockRows; ++r) y[r] = r < block.n ? run.y[(i + r) * run.k + o] : 0.0;
      add_rows<std::int8_t, double>(block.row, run.d, y, run.out + o * run.d);
    }
  }
}

// values[r] of n rows of an array [*][k] in column o, the others `rest`.
template <class T>
inline void take_rows(const T* x, std::size_t i, std::size_t n, std::size_t k, std::size_t o, T rest, T* values) {
  if (k == 1 && n == kBlockRows) {
    memcpy(values, x + i, kBlockRows * sizeof(T));
    return;
  }
  for (std::size_t r = 0; r < kBlockRows; ++r) values[r] = r < n ? x[(i + r) * k + o] : rest;
}

// slope[o][r] of rows i … i+n; returns `total` plus their weighted values, row by row. Slopes of absent rows are 0.
template <class L, class E, class T>
inline double scalar_slopes(const GradientRun<E, T>& run, std::size_t i, std::size_t n, const T* z, T* slope, double total) {
  for (std::size_t o = 0; o < run.k; ++o) {
    T value[kBlockRows], y[kBlockRows], s[kBlockRows], weight[kBlockRows];
    take_rows(run.y, i, n, run.k, o, T{0}, y);
    for (std::size_t r = 0; r < kBlockRows; ++r) value[r] = L::value(z[o * kBlockRows + r] + run.bias[o], y[r], run.parameter, s[r]);
    if (run.weight) {
      take_rows(run.weight, i, n, std::size_t{1}, std::size_t{0}, T{0}, weight);
      for (std::size_t r = 0; r < kBlockRows; ++r) s[r] *= weight[r];
      for (std::size_t r = 0; r < n; ++r) total += static_cast<double>(weight[r]) * static_cast<double>(value[r]);
    } else {
      for (std::size_t r = 0; r < n; ++r) total += static_cast<double>(value[r]);
    }
    for (std::size_t r = n; r < kBlockRows; ++r) s[r] = 0;
    memcpy(slope + o * kBlockRows, s, sizeof s);
  }
  return total;
}

template <class L, class E, class T>
inline double row_slopes(const GradientRun<E, T>& run, std::size_t i, std::size_t n, const T* z, T* slope, double total) {
  for (std::size_t r = 0; r < n; ++r) {
    const T* y = run.y + (i + r) * (run.y_is_class ? 1 : run.k);
    const T weight = run.weight ? run.weight[i + r] : T{1};
    total += static_cast<double>(weight) * L::value(z + r, run.bias, y, run.k, run.y_is_class, slope + r);
    for (std::size_t o = 0; o < run.k; ++o) slope[o * kBlockRows + r] *= weight;
  }
  for (std::size_t o = 0; o < run.k; ++o)
    for (std::size_t r = n; r < kBlockRows; ++r) slope[o * kBlockRows + r] = 0;
  return total;
}

// z[r] = row[r]·w of the eight rows. Rows from memory are taken one after the other, as they lie: eight streams at once
// defeat the prefetchers (1 GB in pages of 4 KB on Zen 4: 94 ms instead of 26). Rows in cache share the loads of w.
template <class E, class T>
inline void dot_block(const RowBlock<E>& block, std::size_t d, const T* w, bool in_cache, T* z) {
  if (in_cache) {
    for (std::size_t r = 0; r < kBlockRows; r += kDotRows) dot_rows<kDotRows>(block.row + r, d, w, z + r);
  } else {
    for (std::size_t r = 0; r < kBlockRows; ++r) dot_rows<1>(block.row + r, d, w, z + r);
  }
}

template <class E>
void product_rows(const ProductRun<E>& run) {
  float z[kBlockRows];
  for (std::size_t i = 0; i < run.n; i += kBlockRows) {
    const RowBlock<E> block(run.x, run.stride, i, run.n);
    for (std::size_t o = 0; o < run.k; ++o) {
      dot_block(block, run.d, run.w + o * run.d, o > 0, z);
      for (std::size_t r = 0; r < block.n; ++r) run.out[(i + r) * run.k + o] = z[r] + run.bias[o];
    }
  }
}

inline void widen(const std::int8_t* __restrict codes, std::size_t d, float* __restrict out) {
  for (std::size_t j = 0; j < d; ++j) out[j] = static_cast<float>(codes[j]);
}

inline void widen(const Nibbles* __restrict codes, std::size_t d, float* __restrict out) {
  const std::size_t h = (d + 1) / 2, whole = (d - h) / 16 * 16;
#if defined(__AVX512BW__)
  alignas(64) static constexpr float kValues[16] = {-8, -7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7};
  for (std::size_t i = 0; i < whole; i += 16) leaf::look_up_nibbles16(&codes[i].both, kValues, out + i, out + h + i);
  const std::size_t done = whole;
#else
  const std::size_t done = 0 * whole;
#endif
  for (std::size_t i = done; i < h; ++i) out[i] = static_cast<float>((codes[i].both & 15) - 8);
  for (std::size_t i = done; i < d - h; ++i) out[h + i] = static_cast<float>((codes[i].both >> 4) - 8);
}

// Where the loops find eight rows: in place …
struct InPlace {
  template <class E, class T>
  static RowBlock<E> take(const GradientRun<E, T>& run, std::size_t i) {
    return RowBlock<E>(run.x, run.stride, i, run.n);
  }
};

// … or in scratch, where codes are floats, so that many outputs share one conversion.
struct Widened {
  template <class E>
  static RowBlock<float> take(const GradientRun<E, float>& run, std::size_t i) {
    const RowBlock<E> block(run.x, run.stride, i, run.n);
    const std::size_t width = wide_row_size(run.d);
    for (std::size_t r = 0; r < block.n; ++r) widen(block.row[r], run.d, run.rows + r * width);
    return RowBlock<float>(run.rows, static_cast<std::ptrdiff_t>(width), 0, block.n);
  }
};

template <class L, bool kOverOutputs, class Place, class E, class T>
inline void gradient_blocks(const GradientRun<E, T>& run) {
  T *z = run.z, *slope = run.z + run.k * kBlockRows;
  double value = *run.value;
  for (std::size_t i = 0; i < run.n; i += kBlockRows) {
    const auto block = Place::take(run, i);
    for (std::size_t o = 0; o < run.k; ++o) dot_block(block, run.d, run.w + o * run.d, o > 0, z + o * kBlockRows);
    if constexpr (kOverOutputs) {
      value = row_slopes<L>(run, i, block.n, z, slope, value);
    } else {
      value = scalar_slopes<L>(run, i, block.n, z, slope, value);
    }
    for (std::size_t o = 0; o < run.k; ++o) {
      const T* s = slope + o * kBlockRows;
      double sum = run.g0[o];
      for (std::size_t r = 0; r < kBlockRows; ++r) sum += static_cast<double>(s[r]);
      run.g0[o] = sum;
      add_rows(block.row, run.d, s, run.g + o * run.d);
    }
  }
  *run.value = value;
}

inline bool loops_take(const std::int8_t*, std::size_t) { return true; }
inline bool loops_take(const Nibbles*, std::size_t d) { return d % 32 == 0; }  // lanes of both halves coincide

// One place or the other gives the same bits: lane j mod kLanes of the same floats.
template <class L, bool kOverOutputs, class E, class T>
void gradient_rows(const GradientRun<E, T>& run) {
  if constexpr (sizeof(E) == 1 && sizeof(T) == sizeof(float)) {
    if (run.k == 1 && loops_take(run.x, run.d)) gradient_blocks<L, kOverOutputs, InPlace>(run);
    else gradient_blocks<L, kOverOutputs, Widened>(run);
  } else {
    gradient_blocks<L, kOverOutputs, InPlace>(run);
  }
}

#define SCRIMP_LOSS_ROW(L, over_outputs)                                                                            \
  {L::kName, over_outputs, &gradient_rows<L, over_outputs, float, float>,                                           \
   &gradient_rows<L, over_outputs, std::int8_t, float>, &gradient_rows<L, over_outputs, Nibbles, float>,            \
   &gradient_rows<L, over_outputs, float, double>, &gradient_rows<L, over_outputs, double, double>,                 \
   &gradient_rows<L, over_outputs, std::int8_t, double>},
#define SCRIMP_SCALAR_ROW(L) SCRIMP_LOSS_ROW(L, false)
#define SCRIMP_OUTPUTS_ROW(L) SCRIMP_LOSS_ROW(L, true)
constexpr LossKernels kLosses[] = {SCRIMP_SCALAR_LOSSES(SCRIMP_SCALAR_ROW) SCRIMP_ROW_LOSSES(SCRIMP_OUTPUTS_ROW)};
#undef SCRIMP_LOSS_ROW
#undef SCRIMP_SCALAR_ROW
#undef SCRIMP_OUTPUTS_ROW

}  // namespace
}  // namespace scrimp
