#pragma once
// Coordinate descent on a quadratic form with an L1 penalty: what bindings call. Elementwise arithmetic alone, so that
// the result has the same bits on every machine and for every number of threads.
#include <cstddef>
#include <cstdint>

namespace scrimp {

struct DescentArgs {
  const double* a = nullptr;  // [d][d] symmetric, positive semidefinite
  std::size_t d = 0, k = 0;
  const double* l1 = nullptr;   // [k]
  const double* l2 = nullptr;   // [k]
  const double* tol = nullptr;  // [k] a sweep that moves no coordinate by more, in units of 1/√a_jj, is the last
  bool positive = false;        // w >= 0
  int sweeps = 0;               // at most
  int threads = 0;
};

// Minimizes ½wᵀAw − bᵀw + l1·‖w‖₁ + ½·l2·‖w‖² for each of k outputs. w[k][d] is the start and becomes the end;
// q[k][d] = b − A·w goes with it. sweeps[k] receives the sweeps that were made.
void descend(const DescentArgs& args, double* w, double* q, std::int64_t* sweeps);

}  // namespace scrimp
