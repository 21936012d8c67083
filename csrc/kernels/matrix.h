#pragma once
// Data in few bits: ranges of columns, rows to codes with their exact noise, codes to rows. What bindings call.
#include <cstddef>
#include <cstdint>

#include "kernels/rows.h"

namespace scrimp {

struct NonfiniteAt {
  bool found = false;
  std::size_t row = 0, column = 0;
};

// low, high [d]: smallest and largest value of each column (inf, -inf without rows); integral [d]: 1 if all are integers.
// Stops at the first NaN or infinity (in row order) and tells where it is; the outputs are then undefined.
NonfiniteAt column_ranges(const MatrixView& x, double* low, double* high, std::uint8_t* integral, int threads);

struct QuantizeArgs {
  MatrixView x;             // [n][d] floats; row 0 is the first row of a leaf
  int bits = 8;             // 8, 4, 2 or 1
  const double* low;        // [d] the value of code 0
  const double* inverse;    // [d] 1/scale; 0: all codes 0
  bool stochastic = true;
  std::uint64_t seed = 0, first_row = 0;
  MatrixView weight;        // [n][1]; data nullptr: all 1
  int threads = 0;
};

constexpr std::size_t packed_row_nbytes(std::size_t d, int bits) {
  return (d * static_cast<std::size_t>(bits) + 7) / 8;
}

// codes [n][row_nbytes]; noise, sum [n_leaves][d]: Σ w·f(1−f) in squared steps, Σ w·x.
void quantize_rows(const QuantizeArgs& args, std::uint8_t* codes, double* noise, double* sum);

// out [x.n][x.d] = offset + scale·code, rounded to float once.
void dequantize_rows(const MatrixView& x, const double* scale, const double* offset, float* out, int threads);

}  // namespace scrimp
