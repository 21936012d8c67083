// Gram matrices: float64 over panels of rows, and the exact one of int8 codes. Only columns i <= j are defined.
// Compiled once per ISA: no std template, unnamed namespace.
#pragma once
#include "kernels/linear_table.h"
#include "kernels/wide-inl.h"

namespace scrimp {
namespace {

constexpr std::size_t kGramTile = kNativeBytes == 16 ? 2 : 4;  // columns i held at once; no influence on the result

// c[i…i+kGramTile][j…j+16] += Σ_r a[r][i]·b[r][j], rows in order.
inline void gram_tile(const GramRun& run, std::size_t i, std::size_t j) {
  using W = Wide<double>;
  W sum[kGramTile][2];
  for (std::size_t t = 0; t < kGramTile; ++t) sum[t][0] = sum[t][1] = W::zero();
  for (std::size_t r = 0; r < run.rows; ++r) {
    const double *a = run.a + r * run.width + i, *b = run.b + r * run.width + j;
    const W low = W::load(b), high = W::load(b + W::kLanes);
#pragma GCC unroll 4
    for (std::size_t t = 0; t < kGramTile; ++t) {
      const W at = W::all(a[t]);
      sum[t][0] = sum[t][0] + at * low;
      sum[t][1] = sum[t][1] + at * high;
    }
  }
  for (std::size_t t = 0; t < kGramTile; ++t) {
    double* c = run.c + (i + t) * run.width + j;
    (W::load(c) + sum[t][0]).store(c);
    (W::load(c + W::kLanes) + sum[t][1]).store(c + W::kLanes);
  }
}

void gram_panel(const GramRun& run) {
  for (std::size_t j = 0; j < run.width; j += kGramColumns)
    for (std::size_t i = 0; i < j + kGramColumns; i += kGramTile) gram_tile(run, i, j);
}

// The codes of one call, column by column as int16 and padded with zeros to whole registers, so that a product of two
// columns is the multiply-add of pairs that every ISA has. 512 rows of ±128: at most 2²³, far from overflow.
constexpr std::size_t kCodeTile = 4;

inline std::size_t code_columns(std::size_t d) { return (d + kCodeTile - 1) / kCodeTile * kCodeTile; }

std::size_t code_gram_nbytes(std::size_t d) { return code_columns(d) * kCodeGramRows * sizeof(std::int16_t); }

inline void transpose_codes(const CodeGramRun& run, std::int16_t* column) {
  memset(column, 0, code_gram_nbytes(run.d));
  for (std::size_t r = 0; r < run.n; ++r) {
    const std::int8_t* x = run.x + static_cast<std::ptrdiff_t>(r) * run.stride;
    for (std::size_t j = 0; j < run.d; ++j) column[j * kCodeGramRows + r] = x[j];
  }
}

inline std::int32_t code_product(const std::int16_t* a, const std::int16_t* b) {
  std::int32_t sum = 0;
  for (std::size_t r = 0; r < kCodeGramRows; ++r)
    sum += static_cast<std::int32_t>(a[r]) * static_cast<std::int32_t>(b[r]);
  return sum;
}

void code_gram_rows(const CodeGramRun& run) {
  auto* column = static_cast<std::int16_t*>(__builtin_assume_aligned(run.scratch, 64));
  transpose_codes(run, column);
  for (std::size_t i = 0; i < run.d; ++i) {
    const std::int16_t* a = column + i * kCodeGramRows;
    std::int64_t* c = run.c + i * run.d;
    for (std::size_t j = i; j < run.d; ++j) c[j] += code_product(a, column + j * kCodeGramRows);
    std::int32_t sum = 0;
    for (std::size_t r = 0; r < kCodeGramRows; ++r) sum += a[r];
    run.sum[i] += sum;
  }
}

}  // namespace
}  // namespace scrimp
