#pragma once
// What a loss is taken against: targets and weights of the rows.
#include "bindings/matrix_arg.h"
#include "kernels/gradient.h"

namespace scrimp {

using OptionalArray = std::optional<py::array>;

inline void take_targets(GradientArgs& args, const py::array& y, const OptionalArray& weight, const std::string& loss, double parameter) {
  args.y = column_view(y, "y", args.x.n);
  args.weight = column_view(weight, "weight", args.x.n);
  const bool classes = find_loss(loss).over_outputs && args.y.d == 1;
  require(args.y.d == args.k || classes, "y must have ", args.k, " columns, got ", describe(y));
  args.loss = loss;
  args.parameter = parameter;
}

}  // namespace scrimp
