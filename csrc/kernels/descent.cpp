#include "kernels/descent.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "core/parallel.h"

namespace scrimp {
namespace {

// One output: coordinates in order, first all, then those that are not 0 until they rest, then all again.
class Descent {
 public:
  Descent(const DescentArgs& args, std::size_t output, double* w, double* q)
      : a_(args.a), d_(args.d), l1_(args.l1[output]), l2_(args.l2[output]), tol_(args.tol[output]), positive_(args.positive),
        w_(w), q_(q) {}

  std::int64_t run(std::int64_t sweeps) {
    std::int64_t done = 0;
    while (done < sweeps) {
      ++done;
      if (sweep_all() <= tol_) break;
      collect_nonzero();
      while (done < sweeps) {
        ++done;
        if (sweep_nonzero() <= tol_) break;
      }
    }
    return done;
  }

 private:
  double sweep_all() {
    double largest = 0;
    for (std::size_t j = 0; j < d_; ++j) largest = std::max(largest, move(j));
    return largest;
  }

  double sweep_nonzero() {
    double largest = 0;
    for (const std::size_t j : nonzero_) largest = std::max(largest, move(j));
    return largest;
  }

  void collect_nonzero() {
    nonzero_.clear();
    for (std::size_t j = 0; j < d_; ++j)
      if (w_[j] != 0) nonzero_.push_back(j);
  }

  // Puts coordinate j where the objective is least; returns how far it went, in units of 1/√a_jj.
  double move(std::size_t j) {
    const double* row = a_ + j * d_;
    const double bend = row[j] + l2_;
    if (!(bend > 0)) return 0;
    const double pull = q_[j] + row[j] * w_[j];
    const double excess = std::max((positive_ ? pull : std::fabs(pull)) - l1_, 0.0);
    const double target = std::copysign(excess, pull) / bend;
    const double step = target - w_[j];
    if (step == 0) return 0;
    w_[j] = target;
    for (std::size_t i = 0; i < d_; ++i) q_[i] -= step * row[i];
    return std::fabs(step) * std::sqrt(bend);
  }

  const double* a_;
  std::size_t d_;
  double l1_, l2_, tol_;
  bool positive_;
  double *__restrict w_, *__restrict q_;
  std::vector<std::size_t> nonzero_;
};

}  // namespace

void descend(const DescentArgs& args, double* w, double* q, std::int64_t* sweeps) {
  const std::size_t traffic = args.k * args.d * args.d * sizeof(double);
  parallel_for(args.k, 1, choose_threads(args.threads, traffic), [&](std::size_t first, std::size_t last) {
    for (std::size_t o = first; o < last; ++o)
      sweeps[o] = Descent(args, o, w + o * args.d, q + o * args.d).run(args.sweeps);
  });
}

}  // namespace scrimp
