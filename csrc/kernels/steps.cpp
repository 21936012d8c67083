#include "kernels/steps.h"

#include <vector>

#include "core/check.h"
#include "core/fp_env.h"
#include "kernels/table.h"

namespace scrimp {
namespace {

class Stepper {
 public:
  Stepper(const StepsArgs& args, StepsState& state)
      : args_(args), state_(state), batch_(args.rows), map_(args.units), size_(args.units.size()),
        end_(args.rows.x.n * (args.first_batch + args.n_steps) / args.n_batches),
        sums_(gradient_width(args.units.d, args.units.k)), wide_(size_), w_(args.units.d * args.units.k),
        intercept_(args.units.k), noise_(args.rows.noise ? args.units.d : 0), gradient_(size_) {
    batch_.w = w_.data();
    batch_.bias = intercept_.data();
    batch_.noise = args.rows.noise ? noise_.data() : nullptr;
  }

  // Whether step i was taken.
  bool take(std::size_t i) {
    const std::size_t n = args_.rows.x.n, b = args_.first_batch + i;
    const std::size_t begin = n * b / args_.n_batches, end = n * (b + 1) / args_.n_batches;
    const double value = differentiate(args_.order + begin, end - begin, end_ - begin);
    if (!active_table().sums->f32.all_finite(gradient_.data(), size_)) return false;
    state_.value += value * static_cast<double>(end - begin);
    update(args_.rates[i]);
    if (state_.mean && i >= args_.n_unaveraged) take_in();
    return true;
  }

 private:
  // Of the first n of the rows that follow.
  double differentiate(const std::int64_t* rows, std::size_t n, std::size_t known) {
    for (std::size_t i = 0; i < size_; ++i) wide_[i] = static_cast<double>(state_.u[i]);
    map_.weights(wide_.data(), w_.data(), intercept_.data());
    batch_.x = take_rows(args_.rows.x, rows, n, known, x_);
    batch_.y = take_rows(args_.rows.y, rows, n, known, y_);
    if (args_.rows.weight.data) batch_.weight = take_rows(args_.rows.weight, rows, n, known, weight_);
    const double count = static_cast<double>(n);
    for (std::size_t j = 0; j < noise_.size(); ++j) noise_[j] = count * args_.rows.noise[j];
    gradient_leaves(batch_, sums_.data());
    const double value = map_.gradient(w_.data(), sums_.data(), count, wide_.data());
    for (std::size_t i = 0; i < size_; ++i) gradient_[i] = static_cast<float>(wide_[i]);
    return value;
  }

  void update(float rate) {
    float *u = state_.u, *m = state_.velocity;
    const float mu = args_.momentum;
    for (std::size_t i = 0; i < size_; ++i) {
      float direction = gradient_[i];
      if (m) {
        m[i] = mu * m[i] + gradient_[i];
        direction = args_.nesterov ? gradient_[i] + mu * m[i] : m[i];
      }
      u[i] += -rate * direction;
    }
  }

  void take_in() {
    const double n = static_cast<double>(++state_.n_averaged);
    for (std::size_t i = 0; i < size_; ++i) state_.mean[i] += (static_cast<double>(state_.u[i]) - state_.mean[i]) / n;
  }

  const StepsArgs& args_;
  StepsState& state_;
  GradientArgs batch_;  // of the rows at hand
  UnitsMap map_;
  const std::size_t size_, end_;  // values of u; rows of the order that this call takes
  std::vector<double> x_, y_, weight_;  // bytes of the rows at hand
  std::vector<double> sums_, wide_, w_, intercept_, noise_;
  std::vector<float> gradient_;
};

}  // namespace

std::size_t take_steps(const StepsArgs& args, StepsState& state) {
  const std::size_t n = args.rows.x.n;
  require(args.n_batches > 0 && n <= kLeafRows * args.n_batches, "batches must have at most ", kLeafRows, " rows, got ", n, " rows in ", args.n_batches);
  require(args.n_steps <= args.n_batches && args.first_batch <= args.n_batches - args.n_steps, "an epoch has ", args.n_batches, " batches, got ", args.first_batch, " + ", args.n_steps);
  const std::size_t end = n * (args.first_batch + args.n_steps) / args.n_batches;
  for (std::size_t i = n * args.first_batch / args.n_batches; i < end; ++i)
    require(args.order[i] >= 0 && static_cast<std::size_t>(args.order[i]) < n, "order[", i, "] must be one of ", n, " rows, got ", args.order[i]);
  const FpEnv ieee;
  Stepper stepper(args, state);
  for (std::size_t i = 0; i < args.n_steps; ++i)
    if (!stepper.take(i)) return i;
  return args.n_steps;
}

}  // namespace scrimp
