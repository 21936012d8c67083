#pragma once
// Many steps of mini-batch descent on a linear model in one call: rows are taken by number, their gradient comes from
// gradient_leaves, the update is that of scrimp.train.optimizers.sgd.
#include <cstddef>
#include <cstdint>

#include "kernels/gradient.h"
#include "kernels/units.h"

namespace scrimp {

struct StepsArgs {
  GradientArgs rows;                    // all rows; w, bias are not read, noise [d] is that of one row
  Units units;
  const std::int64_t* order = nullptr;  // [rows.x.n], the rows in the order in which an epoch visits them
  std::size_t n_batches = 1;            // of an epoch: batch b has the rows n·b / n_batches … n·(b + 1) / n_batches of it
  std::size_t first_batch = 0;          // batches are at most kLeafRows
  std::size_t n_steps = 0;
  const float* rates = nullptr;         // [n_steps]
  float momentum = 0;
  bool nesterov = false;
  std::size_t n_unaveraged = 0;         // steps before the mean takes in the first u
};

struct StepsState {
  float* u;              // [units.size()]
  float* velocity;       // [units.size()]; nullptr without momentum
  double* mean;          // [units.size()]; nullptr without one
  std::size_t n_averaged;
  double value;          // Σ rows·objective
};

// Returns the steps that were taken: fewer where the gradient of the next one is not finite, whose state is not changed.
std::size_t take_steps(const StepsArgs& args, StepsState& state);

}  // namespace scrimp
