// The fused gradient: a group of rows at a time is multiplied by the weights, turned into slopes by the loss, and added to
// the gradient while it is still in cache. Compiled once per ISA: no std template, unnamed namespace.
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

// Rows, and rows by outputs, whose sums are held in registers at once; they have no influence on the result.
constexpr int kDotRows = kNativeBytes == 64 ? 8 : kNativeBytes == 32 ? 4 : 2;
constexpr int kTileRows = kNativeBytes == 64 ? 4 : kNativeBytes == 32 ? 2 : 1;
constexpr int kTileOutputs = kNativeBytes == 64 ? 4 : 2;

// sum[o][r] += Σ_j row[r][j]·w[o][j]: lane j mod kLanes. kFetch: what lies `ahead` elements ahead of the first row is
// fetched to the second-level cache.
template <int kRows, int kOutputs, bool kFetch, class E, class T>
inline void add_products(const E* const* row, std::size_t d, std::ptrdiff_t ahead, const T* w, Wide<T>* sum) {
  using W = Wide<T>;
  std::size_t j = 0;
  for (; j + W::kLanes <= d; j += W::kLanes) {
    W x[kRows];
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) x[r] = W::load(row[r] + j);
    if (kFetch) __builtin_prefetch(row[0] + j + ahead, 0, 2);
#pragma GCC unroll 4
    for (int o = 0; o < kOutputs; ++o) {
      const W wj = W::load(w + o * d + j);
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) sum[o * kRows + r] = sum[o * kRows + r] + x[r] * wj;
    }
  }
  if (j == d) return;
  if (kFetch) __builtin_prefetch(row[0] + j + ahead, 0, 2);
  W w_end[kOutputs];
#pragma GCC unroll 4
  for (int o = 0; o < kOutputs; ++o) w_end[o] = W::first(w + o * d + j, d - j);
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
    const W x = W::first(row[r] + j, d - j);
#pragma GCC unroll 4
    for (int o = 0; o < kOutputs; ++o) sum[o * kRows + r] = sum[o * kRows + r] + x * w_end[o];
  }
}

// z[o][r] = Σ_j row[r][j]·w[o][j], the lanes added pairwise; z is [kOutputs][kBlockRows].
template <int kRows, int kOutputs, bool kFetch, class E, class T>
inline void dot_rows(const E* const* row, std::size_t d, std::ptrdiff_t ahead, const T* w, T* z) {
  using W = Wide<T>;
  W sum[kOutputs * kRows];
#pragma GCC unroll 16
  for (int i = 0; i < kOutputs * kRows; ++i) sum[i] = W::zero();
  add_products<kRows, kOutputs, kFetch>(row, d, ahead, w, sum);
#pragma GCC unroll 4
  for (int o = 0; o < kOutputs; ++o) {
    if constexpr (kRows == 1) {
      z[o * kBlockRows] = sum_of_lanes(sum[o]);
    } else {
#pragma GCC unroll 4
      for (int r = 0; r < kRows; r += 2) sum_two(sum[o * kRows + r], sum[o * kRows + r + 1], z + o * kBlockRows + r);
    }
  }
}

// lanes[o][r] += row[r][j]·w[o][j] over n columns; the outputs of w are d apart. What lies `ahead` elements ahead, unless that
// is 0, is fetched to the second-level cache.
template <int kRows, int kOutputs, class E, class T>
inline void add_tile(const E* const* row, std::size_t n, std::ptrdiff_t ahead, const T* w, std::size_t d, Wide<T>* lanes) {
  using W = Wide<T>;
  W sum[kOutputs * kRows];
#pragma GCC unroll 16
  for (int i = 0; i < kOutputs * kRows; ++i) sum[i] = lanes[i];
  std::size_t j = 0;
  for (; j + W::kLanes <= n; j += W::kLanes) {
    if (ahead)
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) __builtin_prefetch(row[r] + j + ahead, 0, 2);
#pragma GCC unroll 4
    for (int p = 0; p < W::kParts; ++p) {
      const std::size_t at = j + static_cast<std::size_t>(p) * W::kStep;
      Native<T> x[kRows];
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) x[r] = loaded_once(load_native(row[r] + at, T{}));
#pragma GCC unroll 4
      for (int o = 0; o < kOutputs; ++o) {
        const Native<T> wj = loaded_once(load_native(w + o * d + at));
#pragma GCC unroll 8
        for (int r = 0; r < kRows; ++r) sum[o * kRows + r].part[p] = sum[o * kRows + r].part[p] + x[r] * wj;
      }
    }
  }
  if (j < n) {
    W x[kRows];
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) x[r] = W::first(row[r] + j, n - j);
#pragma GCC unroll 4
    for (int o = 0; o < kOutputs; ++o) {
      const W wj = W::first(w + o * d + j, n - j);
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) sum[o * kRows + r] = sum[o * kRows + r] + x[r] * wj;
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < kOutputs * kRows; ++i) lanes[i] = sum[i];
}

// How far ahead rows are fetched: the next eight, and 8 KB of short ones.
template <class E>
inline std::ptrdiff_t rows_ahead(std::size_t d, std::ptrdiff_t stride) {
  const std::size_t rows = 8192 / (d * sizeof(E) + 1);
  return static_cast<std::ptrdiff_t>(rows < kBlockRows ? kBlockRows : rows) * stride;
}

// z[o][r] of the eight rows and kTileOutputs outputs, or as many as there are. A tile shares the loads. Without one, the first
// output takes the rows one after the other, as they lie (1 GB on Zen 4, variants in one microbenchmark: eight interleaved
// streams 106–120 ms, with prefetches 36–90, one row at a time 26).
template <class E, class T>
inline void dot_block(const E* const* row, std::size_t d, std::ptrdiff_t ahead, std::size_t n_outputs, const T* w, T* z) {
  if (n_outputs >= kTileOutputs) {
    for (std::size_t r = 0; r < kBlockRows; r += kTileRows) dot_rows<kTileRows, kTileOutputs, false>(row + r, d, 0, w, z + r);
    return;
  }
  constexpr bool kFetch = sizeof(E) == sizeof(float);  // the others have more work than memory
  for (std::size_t o = 0; o < n_outputs; ++o, w += d, z += kBlockRows) {
    if (n_outputs == 1)
      for (std::size_t r = 0; r < kBlockRows; ++r) dot_rows<1, 1, kFetch>(row + r, d, ahead, w, z + r);
    else if (o == 0)
      for (std::size_t r = 0; r < kBlockRows; ++r) dot_rows<1, 1, false>(row + r, d, 0, w, z + r);
    else
      for (std::size_t r = 0; r < kBlockRows; r += kDotRows) dot_rows<kDotRows, 1, false>(row + r, d, 0, w, z + r);
  }
}

// ((0+1)+(2+3)) + ((4+5)+(6+7))
template <class V>
SCRIMP_HD V sum_of_eight(const V* v) {
  return ((v[0] + v[1]) + (v[2] + v[3])) + ((v[4] + v[5]) + (v[6] + v[7]));
}

// Outputs whose gradients share the loads of the rows.
constexpr int kAddOutputs = kNativeBytes == 64 ? 2 : 1;

// g[o][j] += Σ_r slope[o][r]·row[r][j] over the eight rows and n columns; outputs of g are d apart.
template <int kOutputs, class E, class T>
inline void add_rows(const E* const* row, std::size_t n, const T* slope, T* g, std::size_t d) {
  using W = Wide<T>;
  Native<T> factor[kOutputs][kBlockRows];
#pragma GCC unroll 2
  for (int o = 0; o < kOutputs; ++o)
#pragma GCC unroll 8
    for (std::size_t r = 0; r < kBlockRows; ++r) factor[o][r] = slope[o * kBlockRows + r] - Native<T>{};
  const E* at[kBlockRows];  // in registers: `row` might be what the stores to g change
#pragma GCC unroll 8
  for (std::size_t r = 0; r < kBlockRows; ++r) at[r] = row[r];
  std::size_t j = 0;
  for (; j + W::kStep <= n; j += W::kStep) {
    Native<T> x[kBlockRows], product[kBlockRows];
#pragma GCC unroll 8
    for (std::size_t r = 0; r < kBlockRows; ++r) x[r] = load_native(at[r] + j, T{});
#pragma GCC unroll 2
    for (int o = 0; o < kOutputs; ++o) {
#pragma GCC unroll 8
      for (std::size_t r = 0; r < kBlockRows; ++r) product[r] = x[r] * factor[o][r];
      const Native<T> sum = load_native(g + o * d + j) + sum_of_eight(product);
      memcpy(g + o * d + j, &sum, sizeof sum);
    }
  }
#if defined(__AVX2__)
  if (j == n) return;
  Native<T> x[kBlockRows], product[kBlockRows];
#pragma GCC unroll 8
  for (std::size_t r = 0; r < kBlockRows; ++r) x[r] = load_part(at[r] + j, n - j, T{});
#pragma GCC unroll 2
  for (int o = 0; o < kOutputs; ++o) {
#pragma GCC unroll 8
    for (std::size_t r = 0; r < kBlockRows; ++r) product[r] = x[r] * factor[o][r];
    store_part(g + o * d + j, n - j, load_part(g + o * d + j, n - j, T{}) + sum_of_eight(product));
  }
#else
  for (; j < n; ++j)
    for (int o = 0; o < kOutputs; ++o) {
      T product[kBlockRows];
      for (std::size_t r = 0; r < kBlockRows; ++r) product[r] = static_cast<T>(row[r][j]) * slope[o * kBlockRows + r];
      g[o * d + j] += sum_of_eight(product);
    }
#endif
}

// A square of eight rows and kCrossColumns columns is widened once for all outputs.
void cross_rows(const CrossRun& run) {
  constexpr std::size_t kCrossColumns = 128;
  double x[kBlockRows][kCrossColumns], y[kBlockRows];
  const double* row[kBlockRows];
  for (std::size_t r = 0; r < kBlockRows; ++r) row[r] = x[r];
  for (std::size_t i = 0; i < run.n; i += kBlockRows) {
    const RowBlock<std::int8_t> block(run.x, run.stride, i, run.n);
    for (std::size_t j = 0; j < run.d; j += kCrossColumns) {
      const std::size_t n = run.d - j < kCrossColumns ? run.d - j : kCrossColumns;
      for (std::size_t r = 0; r < kBlockRows; ++r)
        for (std::size_t c = 0; c < n; ++c) x[r][c] = static_cast<double>(block.row[r][j + c]);
      for (std::size_t o = 0; o < run.k; ++o) {
        for (std::size_t r = 0; r < kBlockRows; ++r) y[r] = r < block.n ? run.y[(i + r) * run.k + o] : 0.0;
        add_rows<1, double, double>(row, n, y, run.out + o * run.d + j, run.d);
      }
    }
  }
}

// Copies kBlockRows values in the largest registers that they fill: memcpy takes halves, which a load of the whole waits for.
template <class T>
inline void copy_block(const T* from, T* to) {
  constexpr std::size_t kBytes = kBlockRows * sizeof(T), kPart = kBytes < kNativeBytes ? kBytes : kNativeBytes;
  typedef T Part __attribute__((vector_size(kPart)));
  for (std::size_t r = 0; r < kBlockRows; r += kPart / sizeof(T)) {
    Part part;
    memcpy(&part, from + r, sizeof part);
    memcpy(to + r, &part, sizeof part);
  }
}

// values[r] of n rows of an array [*][k] in column o, the others `rest`.
template <class T>
inline void take_rows(const T* x, std::size_t i, std::size_t n, std::size_t k, std::size_t o, T rest, T* values) {
  if (k == 1 && n == kBlockRows) return copy_block(x + i, values);
  for (std::size_t r = 0; r < kBlockRows; ++r) values[r] = r < n ? x[(i + r) * k + o] : rest;
}

// slope[o][r] of rows i … i+n, which may lie where z does; returns `total` plus their weighted values, row by row. Slopes of
// absent rows are 0.
template <class L, class E, class T>
inline double scalar_slopes(const GradientRun<E, T>& run, std::size_t i, std::size_t n, const T* z, T* slope, double total) {
  for (std::size_t o = 0; o < run.k; ++o) {
    T value[kBlockRows], y[kBlockRows], s[kBlockRows], weight[kBlockRows];
    take_rows(run.y, i, n, run.k, o, T{0}, y);
#pragma GCC unroll 1  // else gcc unrolls short losses before it looks for vectors, and leaves them scalar
    for (std::size_t r = 0; r < kBlockRows; ++r) value[r] = L::value(z[o * kBlockRows + r] + run.bias[o], y[r], run.parameter, s[r]);
    if (run.weight) {
      take_rows(run.weight, i, n, std::size_t{1}, std::size_t{0}, T{0}, weight);
      for (std::size_t r = 0; r < kBlockRows; ++r) s[r] *= weight[r];
      for (std::size_t r = 0; r < n; ++r) total += static_cast<double>(weight[r]) * static_cast<double>(value[r]);
    } else {
      for (std::size_t r = 0; r < n; ++r) total += static_cast<double>(value[r]);
    }
    for (std::size_t r = n; r < kBlockRows; ++r) s[r] = 0;
    copy_block(s, slope + o * kBlockRows);
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

template <class E>
void product_rows(const ProductRun<E>& run) {
  float z[kTileOutputs * kBlockRows];
  for (std::size_t i = 0; i < run.n; i += kBlockRows) {
    const RowBlock<E> block(run.x, run.stride, i, run.n);
    for (std::size_t o = 0; o < run.k; o += kTileOutputs) {
      const std::size_t n_outputs = run.k - o < kTileOutputs ? run.k - o : kTileOutputs;
      dot_block(block.row, run.d, rows_ahead<E>(run.d, run.stride), n_outputs, run.w + o * run.d, z);
      for (std::size_t r = 0; r < block.n; ++r)
        for (std::size_t p = 0; p < n_outputs; ++p) run.out[(i + r) * run.k + o + p] = z[p * kBlockRows + r] + run.bias[o + p];
    }
  }
}

// The slopes of rows i … i + n by the loss's way, as above.
template <class L, bool kOverOutputs, class E, class T>
inline double slopes_of(const GradientRun<E, T>& run, std::size_t i, std::size_t n, const T* z, T* slope, double total) {
  if constexpr (kOverOutputs) return row_slopes<L>(run, i, n, z, slope, total);
  else return scalar_slopes<L>(run, i, n, z, slope, total);
}

// Products of rows of floats with all outputs, tile by tile of outputs, so that a tile stays in the first-level cache
// while the rows of a group come from the second.
template <class E, class T>
struct FloatRows {
  static constexpr std::size_t kBlock = kBlockRows;
  static constexpr std::size_t kChunkOutputs = 16, kChunkColumns = 512 / sizeof(T);
  const GradientRun<E, T>& run;

  // z[block][o][r] of n rows from row i on.
  void multiply(std::size_t i, std::size_t n, T* z) const {
    for (std::size_t b = 0; b < n; b += kBlockRows) {
      const RowBlock<E> block(run.x, run.stride, i + b, run.n);
      std::size_t o = 0;
      for (; o + kTileOutputs <= run.k; o += kChunkOutputs) multiply_tiles(block.row, o, z + b * run.k + o * kBlockRows);
      o = run.k / kTileOutputs * kTileOutputs;
      if (o < run.k) dot_block(block.row, run.d, rows_ahead<E>(run.d, run.stride), run.k - o, run.w + o * run.d, z + b * run.k + o * kBlockRows);
    }
  }

  // Whole tiles of up to kChunkOutputs outputs from output o on: a square of rows and columns in the first-level cache meets
  // all of them, their lanes wait in memory for the next columns.
  void multiply_tiles(const E* const* row, std::size_t o, T* z) const {
    using W = Wide<T>;
    const std::size_t left = (run.k - o) / kTileOutputs * kTileOutputs, n_outputs = left < kChunkOutputs ? left : kChunkOutputs;
    W lanes[kChunkOutputs * kBlockRows];
    for (std::size_t p = 0; p < n_outputs * kBlockRows; ++p) lanes[p] = W::zero();
    for (std::size_t j = 0; j < run.d; j += kChunkColumns) {
      const std::size_t n = run.d - j < kChunkColumns ? run.d - j : kChunkColumns;
      for (std::size_t r = 0; r < kBlockRows; r += kTileRows) {
        const E* part[kTileRows];
        for (std::size_t t = 0; t < kTileRows; ++t) part[t] = row[r + t] + j;
        for (std::size_t p = 0; p < n_outputs; p += kTileOutputs)
          add_tile<kTileRows, kTileOutputs>(part, n, o + p == 0 ? kBlockRows * run.stride : 0, run.w + (o + p) * run.d + j, run.d,
                                            lanes + p * kBlockRows + r * kTileOutputs);
      }
    }
    for (std::size_t p = 0; p < n_outputs; p += kTileOutputs)
      for (std::size_t r = 0; r < kBlockRows; r += kTileRows)
        for (std::size_t q = 0; q < kTileOutputs; ++q)
          for (std::size_t t = 0; t < kTileRows; ++t)
            z[(p + q) * kBlockRows + r + t] = sum_of_lanes(lanes[p * kBlockRows + r * kTileOutputs + q * kTileRows + t]);
  }

  // Several outputs: a square of rows and columns in half of the first-level cache is added to all of them.
  void add(std::size_t i, std::size_t n, const T* slope) const {
    if (run.k == 1) {
      for (std::size_t b = 0; b < n; b += kBlockRows)
        add_rows<1>(RowBlock<E>(run.x, run.stride, i + b, run.n).row, run.d, slope + b, run.g, run.d);
      return;
    }
    constexpr std::size_t kColumns = 512 / sizeof(E);
    for (std::size_t b = 0; b < n; b += kSquareRows)
      for (std::size_t j = 0; j < run.d; j += kColumns)
        add_square(i + b, n - b < kSquareRows ? n - b : kSquareRows, j, run.d - j < kColumns ? run.d - j : kColumns, slope + b * run.k);
  }

  static constexpr std::size_t kSquareRows = 32;

  // Rows i … i + n, columns j … j + width.
  void add_square(std::size_t i, std::size_t n, std::size_t j, std::size_t width, const T* slope) const {
    const E* row[kSquareRows];
    for (std::size_t b = 0; b < n; b += kBlockRows)
      memcpy(row + b, RowBlock<E>(run.x + j, run.stride, i + b, run.n).row, kBlockRows * sizeof *row);
    std::size_t o = 0;
    for (; o + kAddOutputs <= run.k; o += kAddOutputs)
      for (std::size_t b = 0; b < n; b += kBlockRows)
        add_rows<kAddOutputs>(row + b, width, slope + b * run.k + o * kBlockRows, run.g + o * run.d + j, run.d);
    for (; o < run.k; ++o)
      for (std::size_t b = 0; b < n; b += kBlockRows)
        add_rows<1>(row + b, width, slope + b * run.k + o * kBlockRows, run.g + o * run.d + j, run.d);
  }
};

// Scores x [n][k] in place of rows, d = k: what the products would be. The slopes are written to g [n][k], which may be x.
template <class T>
struct ScoreRows {
  static constexpr std::size_t kBlock = kBlockRows;
  const GradientRun<T, T>& run;

  void multiply(std::size_t i, std::size_t n, T* z) const {
    for (std::size_t b = 0; b < n; b += kBlockRows)
      for (std::size_t o = 0; o < run.k; ++o)
        take_rows(run.x, i + b, n - b < kBlockRows ? n - b : kBlockRows, run.k, o, T{0}, z + b * run.k + o * kBlockRows);
  }

  void add(std::size_t i, std::size_t n, const T* slope) const {
    for (std::size_t r = 0; r < n; ++r)
      for (std::size_t o = 0; o < run.k; ++o)
        run.g[(i + r) * run.k + o] = slope[r / kBlockRows * kBlockRows * run.k + o * kBlockRows + r % kBlockRows];
  }
};

// A group of rows at a time: multiplied by the weights, turned into slopes, added to the gradient.
template <class L, bool kOverOutputs, class Products, class E, class T>
inline void gradient_groups(const GradientRun<E, T>& run, const Products& products) {
  T *z = run.z, *slope = run.z + run.k * kBlockRows;  // slope: [block][k][kBlockRows], and z before that
  const std::size_t group = group_rows(run.d * sizeof(E), run.k, Products::kBlock);
  for (std::size_t i = 0; i < run.n; i += group) {
    const std::size_t n = run.n - i < group ? run.n - i : group;
    products.multiply(i, n, slope);
    for (std::size_t b = 0; b < n; b += kBlockRows) {
      T* s = slope + b * run.k;
      if (kOverOutputs) memcpy(z, s, run.k * kBlockRows * sizeof(T));
      *run.value = slopes_of<L, kOverOutputs>(run, i + b, n - b < kBlockRows ? n - b : kBlockRows, kOverOutputs ? z : s, s, *run.value);
      for (std::size_t o = 0; o < run.k; ++o)
        for (std::size_t r = 0; r < kBlockRows; ++r) run.g0[o] += static_cast<double>(s[o * kBlockRows + r]);
    }
    products.add(i, n, slope);
  }
}

template <class L, bool kOverOutputs, class E, class T>
void gradient_rows(const GradientRun<E, T>& run) {
  gradient_groups<L, kOverOutputs>(run, FloatRows<E, T>{run});
}

template <class L, bool kOverOutputs, class T>
void slope_rows(const GradientRun<T, T>& run) {
  gradient_groups<L, kOverOutputs>(run, ScoreRows<T>{run});
}

}  // namespace
}  // namespace scrimp
