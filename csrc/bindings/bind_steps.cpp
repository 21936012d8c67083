#include "bindings/bind.h"
#include "bindings/targets_arg.h"
#include "kernels/steps.h"

namespace scrimp {
namespace {

// Units, and the arrays that they point into.
class HeldUnits {
 public:
  HeldUnits(py::array mean, py::array centre, py::array penalty, py::array scale, OptionalArray lower, bool bias, bool joint)
      : arrays_{std::move(mean), std::move(centre), std::move(penalty), std::move(scale)}, lower_(std::move(lower)) {
    units_.d = static_cast<std::size_t>(arrays_[0].size());
    units_.k = static_cast<std::size_t>(arrays_[1].size());
    units_.bias = bias;
    units_.joint = joint;
    const std::size_t n = joint ? units_.size() : units_.d;
    units_.mean = optional_doubles(arrays_[0], "mean", units_.d);
    units_.centre = optional_doubles(arrays_[1], "centre", units_.k);
    units_.penalty = optional_doubles(arrays_[2], "penalty", units_.k);
    units_.scale = optional_doubles(arrays_[3], "scale", n);
    units_.lower = optional_doubles(lower_, "lower", n * n);
  }

  const Units& get() const { return units_; }

  void weights(const py::array& u, py::array w, py::array intercept) const {
    const double* from = optional_doubles(u, "u", units_.size());
    double* to = out_array<double>(w, "w", units_.d * units_.k, 2);
    double* shift = out_array<double>(intercept, "intercept", units_.k);
    py::gil_scoped_release release;
    UnitsMap(units_).weights(from, to, shift);
  }

  double gradient(const py::array& w, const py::array& sums, double n, py::array g) const {
    const double* at = optional_doubles(w, "w", units_.d * units_.k);
    const double* total = optional_doubles(sums, "sums", gradient_width(units_.d, units_.k));
    double* out = out_array<double>(g, "g", units_.size(), 2);
    py::gil_scoped_release release;
    return UnitsMap(units_).gradient(at, total, n, out);
  }

 private:
  py::array arrays_[4];
  OptionalArray lower_;
  Units units_;
};

// Returns steps taken, steps in the mean, and the sum of the objective.
py::tuple steps(const HeldUnits& units, const py::array& x, int bits, const OptionalArray& scale, const OptionalArray& offset,
                const OptionalArray& noise, const py::array& y, const OptionalArray& weight, const std::string& loss,
                double parameter, bool precise, int threads, const py::array& order, std::size_t n_batches,
                std::size_t first_batch, const py::array& rates, float momentum, bool nesterov, std::size_t n_unaveraged,
                py::array u, std::optional<py::array> velocity, std::optional<py::array> mean, std::size_t n_averaged, double value) {
  StepsArgs args;
  args.units = units.get();
  const std::size_t d = args.units.d, size = args.units.size();
  args.rows.k = args.units.k;
  args.rows.x = rows_view(x, bits, d);
  args.rows.scale = optional_doubles(scale, "scale", d);
  args.rows.offset = optional_doubles(offset, "offset", d);
  args.rows.noise = optional_doubles(noise, "noise", d);
  take_targets(args.rows, y, weight, loss, parameter);
  args.rows.precise = precise;
  args.rows.threads = threads;
  args.order = in_array<std::int64_t>(order, "order");
  require(static_cast<std::size_t>(order.size()) == args.rows.x.n, "order must hold ", args.rows.x.n, " rows, got ", order.size());
  args.n_batches = n_batches;
  args.first_batch = first_batch;
  args.rates = in_array<float>(rates, "rates");
  args.n_steps = static_cast<std::size_t>(rates.size());
  args.momentum = momentum;
  args.nesterov = nesterov;
  args.n_unaveraged = n_unaveraged;
  StepsState state{out_array<float>(u, "u", size), velocity ? out_array<float>(*velocity, "velocity", size) : nullptr,
                   mean ? out_array<double>(*mean, "mean", size) : nullptr, n_averaged, value};
  std::size_t taken = 0;
  {
    py::gil_scoped_release release;
    taken = take_steps(args, state);
  }
  return py::make_tuple(taken, state.n_averaged, state.value);
}

}  // namespace

void bind_steps(py::module_& m) {
  using namespace py::literals;
  py::class_<HeldUnits>(m, "Units")
      .def(py::init<py::array, py::array, py::array, py::array, OptionalArray, bool, bool>(), "mean"_a, "centre"_a, "penalty"_a,
           "scale"_a, "lower"_a.none(true), "bias"_a, "joint"_a)
      .def("weights", &HeldUnits::weights, "u"_a, "w"_a, "intercept"_a)
      .def("gradient", &HeldUnits::gradient, "w"_a, "sums"_a, "n"_a, "g"_a);
  m.def("take_steps", &steps, "units"_a, "x"_a, "bits"_a, "scale"_a.none(true), "offset"_a.none(true), "noise"_a.none(true),
        "y"_a, "weight"_a.none(true), "loss"_a, "parameter"_a, "precise"_a, "threads"_a, "order"_a, "n_batches"_a,
        "first_batch"_a, "rates"_a, "momentum"_a, "nesterov"_a, "n_unaveraged"_a, "u"_a, "velocity"_a.none(true),
        "mean"_a.none(true), "n_averaged"_a, "value"_a);
}

}  // namespace scrimp
