#pragma once
// Gram matrices of float rows, or of weighted codes: float64 sums by leaf. What bindings call.
#include <cstddef>
#include <cstdint>

#include "kernels/rows.h"

namespace scrimp {

struct GramArgs {
  MatrixView x;                   // [n][d]; row 0 is the first row of a leaf
  const double* scale = nullptr;  // [d] of codes; nullptr: x = code
  const double* offset = nullptr;
  const double* shift = nullptr;  // [d] subtracted from x; nullptr: none
  MatrixView y;                   // [n][k]; data nullptr: k = 0
  MatrixView weight;              // [n][1]; data nullptr: all 1
  int threads = 0;
};

// Fills out[n_leaves(n)][m(m+1)/2], m = d + k + 1: each leaf's upper triangle, row by row, of Σ w_i·v_i·v_iᵀ for the
// augmented rows v_i = (x_i − shift, y_i, 1).
void gram_leaves(const GramArgs& args, double* out);

}  // namespace scrimp
