// Triangular solves for few right-hand sides, in one order of additions whatever the ISA, which no LAPACK promises. Compiled
// once per ISA: no std template, unnamed namespace.
#pragma once
#include "kernels/gradient_loop-inl.h"

namespace scrimp {
namespace {

// lower·x = b: a block of rows less what the columns before add, in lanes, then its own columns one after the other.
void solve_lower(const TriangularRun& run) {
  const std::size_t n = run.n;
  for (std::size_t i = 0; i < n; i += kBlockRows) {
    const RowBlock<double> block(run.lower, static_cast<std::ptrdiff_t>(n), i, n);
    for (std::size_t o = 0; o < run.k; ++o) {
      double *x = run.x + o * n, before[kBlockRows];
      for (std::size_t r = 0; r < kBlockRows; r += kDotRows)
        dot_rows<kDotRows, 1, false>(block.row + r, i, 0, x, before + r);
      for (std::size_t r = 0; r < block.n; ++r) x[i + r] -= before[r];
      for (std::size_t c = 0; c < block.n; ++c) {
        x[i + c] /= block.row[c][i + c];
        for (std::size_t r = c + 1; r < block.n; ++r) x[i + r] -= block.row[r][i + c] * x[i + c];
      }
    }
  }
}

constexpr std::size_t kSolvedAtOnce = 4;

// lowerᵀ·x = b: from the last row up, each taken off all values before it; four rows in one pass over those.
void solve_lower_transposed(const TriangularRun& run) {
  const std::size_t n = run.n;
  for (std::size_t end = n; end;) {
    const std::size_t m = end % kSolvedAtOnce ? end % kSolvedAtOnce : kSolvedAtOnce, i = end - m;
    const double* row = run.lower + i * n;
    for (std::size_t o = 0; o < run.k; ++o) {
      double* __restrict x = run.x + o * n;
      double solved[kSolvedAtOnce] = {};
      for (std::size_t r = m; r--;) {
        solved[r] = x[i + r] /= row[r * n + i + r];
        for (std::size_t c = 0; c < r; ++c) x[i + c] -= row[r * n + i + c] * solved[r];
      }
      if (m == kSolvedAtOnce)
        for (std::size_t j = 0; j < i; ++j)
          x[j] = (((x[j] - row[3 * n + j] * solved[3]) - row[2 * n + j] * solved[2]) - row[n + j] * solved[1]) - row[j] * solved[0];
      else
        for (std::size_t r = m; r--;)
          for (std::size_t j = 0; j < i; ++j) x[j] -= row[r * n + j] * solved[r];
    }
    end = i;
  }
}

}  // namespace
}  // namespace scrimp
