#include "kernels/low_rank.h"

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "core/check.h"
#include "core/parallel.h"
#include "kernels/table.h"

namespace scrimp {

#if defined(__x86_64__)
extern const LowRankKernels kLowRank_v2, kLowRank_v3, kLowRank_v4, kLowRank_v4vnni;
#else
extern const LowRankKernels kLowRank_neon;
#endif

namespace {

constexpr std::size_t kStreamNbytes = 16 << 20;  // as in codec.cpp
constexpr std::size_t kColumns = 1024;  // that a thread of `fold` takes at least

// Those of the ISA that the process has chosen for all its kernels.
const LowRankKernels& kernels() {
  static const LowRankKernels& chosen = [&]() -> const LowRankKernels& {
#if defined(__x86_64__)
    const LowRankKernels* rows[] = {&kLowRank_v2, &kLowRank_v3, &kLowRank_v4, &kLowRank_v4vnni};
#else
    const LowRankKernels* rows[] = {&kLowRank_neon};
#endif
    for (const LowRankKernels* row : rows)
      if (!std::strcmp(row->isa, active_table().isa)) return *row;
    std::abort();
  }();
  return chosen;
}

void by_rows(LowRankRun run, int threads, std::size_t traffic, void (*pass)(const LowRankRun&)) {
  const std::size_t grain = 1 + (std::size_t{1} << 14) / (run.columns + 1);
  parallel_for(run.rows, grain, choose_threads(threads, traffic), [&](std::size_t begin, std::size_t end) {
    LowRankRun part = run;
    part.begin = begin, part.end = end;
    pass(part);
  });
}

std::size_t nbytes(const LowRankRun& run) { return run.rows * run.columns * sizeof(float); }

double dot(const double* a, const double* b, std::size_t n) {
  double lane[8] = {};
  std::size_t i = 0;
  for (; i + 8 <= n; i += 8)
    for (std::size_t j = 0; j < 8; ++j) lane[j] += a[i + j] * b[i + j];
  double sum = ((lane[0] + lane[4]) + (lane[2] + lane[6])) + ((lane[1] + lane[5]) + (lane[3] + lane[7]));
  for (; i < n; ++i) sum += a[i] * b[i];
  return sum;
}

}  // namespace

void low_rank_project(LowRankRun run, int threads) {
  run.stream = nbytes(run) >= kStreamNbytes;
  by_rows(run, threads, 3 * nbytes(run), kernels().project);
}

void low_rank_expand(LowRankRun run, int threads) { by_rows(run, threads, nbytes(run), kernels().expand); }

void low_rank_fold(LowRankRun run, int threads) {
  parallel_for(run.columns, kColumns, choose_threads(threads, nbytes(run)), [&](std::size_t begin, std::size_t end) {
    LowRankRun part = run;
    part.begin = begin, part.end = end;
    kernels().fold(part);
  });
}

void orthonormalize(float* p, std::size_t rows, std::size_t rank) {
  std::vector<double> columns(rows * rank);
  for (std::size_t i = 0; i < rows; ++i)
    for (std::size_t k = 0; k < rank; ++k) columns[k * rows + i] = static_cast<double>(p[i * rank + k]);
  for (std::size_t k = 0; k < rank; ++k) {
    double* column = columns.data() + k * rows;
    const double before = std::sqrt(dot(column, column, rows));
    for (int twice = 0; twice < 2; ++twice)  // once leaves errors of the size of the dependence
      for (std::size_t l = 0; l < k; ++l) {
        const double* other = columns.data() + l * rows;
        const double along = dot(column, other, rows);
        for (std::size_t i = 0; i < rows; ++i) column[i] -= along * other[i];
      }
    const double length = std::sqrt(dot(column, column, rows));
    const double scale = length > 1e-6 * before && length > 0 ? 1 / length : 0;
    for (std::size_t i = 0; i < rows; ++i) column[i] *= scale;
  }
  for (std::size_t i = 0; i < rows; ++i)
    for (std::size_t k = 0; k < rank; ++k) p[i * rank + k] = static_cast<float>(columns[k * rows + i]);
}

}  // namespace scrimp
