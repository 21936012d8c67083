#pragma once
// The units in which a linear model is trained (scrimp.train.linear.LinearObjective): u of [d + bias][k] stands for
// coefficients R⁻ᵀ·u and intercepts, R the Cholesky factor of an approximate Hessian.
#include <cstddef>
#include <vector>

namespace scrimp {

struct Units {
  std::size_t d = 0, k = 1;
  bool bias = false;      // u has a row for the intercepts
  bool joint = false;     // R is that of all of u, else of its first d rows
  const double* mean = nullptr;     // [d]
  const double* centre = nullptr;   // [k]
  const double* penalty = nullptr;  // [k]
  const double* scale = nullptr;    // [n], R = diag(1/scale)·lower; n = (d + bias)·k where joint, else d
  const double* lower = nullptr;    // [n][n]; nullptr: the identity

  std::size_t size() const { return (d + bias) * k; }
};

// Everything in one order of additions, so that steps have the same bits on every machine.
class UnitsMap {
 public:
  explicit UnitsMap(const Units& units) : units_(units), x_(units.size()) {}

  // w [d][k], intercept [k] of u.
  void weights(const double* u, double* w, double* intercept);

  // The objective and its gradient by u [d + bias][k], given the sums over n rows (gradient_width of them) at w.
  double gradient(const double* w, const double* sums, double n, double* g);

 private:
  std::size_t outputs() const { return units_.joint ? 1 : units_.k; }
  std::size_t solved() const { return units_.joint ? units_.size() : units_.d; }  // values of u by output that R turns

  const Units units_;
  std::vector<double> x_;  // [outputs][solved]
};

}  // namespace scrimp
