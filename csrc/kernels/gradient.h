#pragma once
// Loss and gradient of a linear model, leaf by leaf: what bindings call. Threads own whole leaves of kLeafRows rows, so
// that the sums of a leaf do not depend on how many there are.
#include <cstddef>
#include <string>

#include "kernels/rows.h"

namespace scrimp {

struct GradientArgs {
  MatrixView x;                   // [n][d]; row 0 is the first row of a leaf
  const double* scale = nullptr;  // [d] of codes: x = offset + scale·code; nullptr: x = code
  const double* offset = nullptr;
  const double* noise = nullptr;  // [n_leaves][d] Σ w_i·Var(e_ij): removed from gradient and value of the squared loss
  std::size_t k = 1;
  const double* w = nullptr;      // [d][k]
  const double* bias = nullptr;   // [k]
  MatrixView y;                   // [n][k], or [n][1] classes for a loss over outputs
  MatrixView weight;              // [n][1]; data nullptr: all 1
  std::string loss = "squared";
  double parameter = 0;
  bool precise = false;           // products and sums in double throughout
  int threads = 0;
};

// A leaf's sums: g [d][k], g0 [k], value, Σ weight.
inline std::size_t gradient_width(std::size_t d, std::size_t k) { return d * k + k + 2; }

// Fills out[n_leaves(n)][gradient_width(d, k)].
void gradient_leaves(const GradientArgs& args, double* out);

// Turns the scores [args.x.n][k] of one leaf's rows into their weighted slopes; sums[k + 2]: g0, value, Σ weight. Reads n of
// x, k, bias, y, weight, loss, parameter.
template <class T>
void slopes_of_scores(const GradientArgs& args, T* scores, double* sums);

const LossKernels& find_loss(const std::string& name);  // throws std::invalid_argument that lists the known names

// out[n][k] = x·w + bias; reads x, scale, offset, k, w, bias, threads.
void product(const GradientArgs& args, float* out);

}  // namespace scrimp
