#include "bindings/bind.h"
#include "bindings/targets_arg.h"
#include "kernels/code_gram.h"
#include "kernels/descent.h"
#include "kernels/gram.h"
#include "kernels/table.h"

namespace scrimp {
namespace {

py::list loss_names() {
  py::list names;
  const LinearKernels& kernels = *active_table().linear;
  for (std::size_t i = 0; i < kernels.n_losses; ++i) names.append(kernels.losses[i].name);
  return names;
}

void gradient(const py::array& x, int bits, const OptionalArray& scale, const OptionalArray& offset, const OptionalArray& noise,
              const py::array& y, const OptionalArray& weight, const py::array& w, const py::array& bias,
              const std::string& loss, double parameter, bool precise, int threads, py::array out) {
  GradientArgs args;
  args.w = in_array<double>(w, "w", 2);
  const std::size_t d = static_cast<std::size_t>(w.shape(0));
  args.k = static_cast<std::size_t>(w.shape(1));
  args.x = rows_view(x, bits, d);
  args.scale = optional_doubles(scale, "scale", d);
  args.offset = optional_doubles(offset, "offset", d);
  args.noise = optional_doubles(noise, "noise", n_leaves(args.x.n) * d);
  args.bias = optional_doubles(bias, "bias", args.k);
  take_targets(args, y, weight, loss, parameter);
  args.precise = precise;
  args.threads = threads;
  double* sums = out_array<double>(out, "out", n_leaves(args.x.n) * gradient_width(d, args.k), 2);
  py::gil_scoped_release release;
  gradient_leaves(args, sums);
}

// Scores of float32 or float64 become slopes.
void slopes(py::array scores, const py::array& y, const OptionalArray& weight, const py::array& bias, const std::string& loss,
            double parameter, py::array out) {
  GradientArgs args;
  args.bias = in_array<double>(bias, "bias");
  args.k = static_cast<std::size_t>(bias.size());
  args.x.n = static_cast<std::size_t>(y.shape(0));
  take_targets(args, y, weight, loss, parameter);
  double* sums = out_array<double>(out, "out", args.k + 2);
  const auto run = [&]<class T>(T* values) {
    py::gil_scoped_release release;
    slopes_of_scores(args, values, sums);
  };
  if (holds<double>(scores)) run(out_array<double>(scores, "scores", args.x.n * args.k, 2));
  else run(out_array<float>(scores, "scores", args.x.n * args.k, 2));
}

void predict(const py::array& x, int bits, const OptionalArray& scale, const OptionalArray& offset, const py::array& w,
             const py::array& bias, int threads, py::array out) {
  GradientArgs args;
  args.w = in_array<double>(w, "w", 2);
  const std::size_t d = static_cast<std::size_t>(w.shape(0));
  args.k = static_cast<std::size_t>(w.shape(1));
  args.x = rows_view(x, bits, d);
  args.scale = optional_doubles(scale, "scale", d);
  args.offset = optional_doubles(offset, "offset", d);
  args.bias = optional_doubles(bias, "bias", args.k);
  args.threads = threads;
  float* values = out_array<float>(out, "out", args.x.n * args.k, 2);
  py::gil_scoped_release release;
  product(args, values);
}

// `low` and `inverse` set: x holds floats, which are rounded to codes on the way.
void codes_gram(const py::array& x, int bits, const py::array& scale, const py::array& offset, const OptionalArray& y,
                const OptionalArray& low, const OptionalArray& inverse, bool stochastic, std::uint64_t seed,
                std::uint64_t first_row, py::array c, py::array sum, py::array leaves, int threads) {
  const std::size_t d = static_cast<std::size_t>(scale.size());
  CodeGramArgs args;
  args.x = rows_view(x, low ? 0 : bits, d);
  require(args.x.is_codes() != low.has_value(), "X must hold ", low ? "floats" : "codes", ", got ", describe(x));
  args.scale = in_array<double>(scale, "scale");
  args.offset = optional_doubles(offset, "offset", d);
  args.y = column_view(y, "y", args.x.n);
  args.threads = threads;
  const QuantizeArgs rounding{args.x, bits, optional_doubles(low, "low", d), optional_doubles(inverse, "inverse", d),
                              stochastic, seed, first_row, {}, threads};
  if (low) args.quantize = &rounding;
  std::int64_t* gram = out_array<std::int64_t>(c, "c", d * d, 2);
  std::int64_t* sums = out_array<std::int64_t>(sum, "sum", d);
  double* out = out_array<double>(leaves, "leaves", n_leaves(args.x.n) * code_gram_width(d, args.y.d, low.has_value()), 2);
  py::gil_scoped_release release;
  code_gram(args, gram, sums, out);
}

void gram(const py::array& x, int bits, std::size_t d, const OptionalArray& scale, const OptionalArray& offset,
          const OptionalArray& shift, const OptionalArray& y, const OptionalArray& weight, py::array out, int threads) {
  GramArgs args;
  args.x = rows_view(x, bits, d);
  args.scale = optional_doubles(scale, "scale", d);
  args.offset = optional_doubles(offset, "offset", d);
  args.shift = optional_doubles(shift, "shift", d);
  args.y = column_view(y, "y", args.x.n);
  args.weight = column_view(weight, "weight", args.x.n);
  args.threads = threads;
  const std::size_t m = d + args.y.d + 1;
  double* sums = out_array<double>(out, "out", n_leaves(args.x.n) * (m * (m + 1) / 2), 2);
  py::gil_scoped_release release;
  gram_leaves(args, sums);
}

void coordinate_descent(const py::array& a, py::array w, py::array q, const py::array& l1, const py::array& l2,
                        const py::array& tol, bool positive, int sweeps, py::array done, int threads) {
  DescentArgs args;
  args.a = in_array<double>(a, "a", 2);
  args.d = static_cast<std::size_t>(a.shape(0));
  args.k = static_cast<std::size_t>(l1.size());
  require(static_cast<std::size_t>(a.shape(1)) == args.d, "a must be square, got ", describe(a));
  args.l1 = optional_doubles(l1, "l1", args.k);
  args.l2 = optional_doubles(l2, "l2", args.k);
  args.tol = optional_doubles(tol, "tol", args.k);
  args.positive = positive;
  args.sweeps = sweeps;
  args.threads = threads;
  double* weights = out_array<double>(w, "w", args.k * args.d, 2);
  double* slopes = out_array<double>(q, "q", args.k * args.d, 2);
  std::int64_t* counts = out_array<std::int64_t>(done, "done", args.k);
  py::gil_scoped_release release;
  descend(args, weights, slopes, counts);
}

}  // namespace

void bind_linear(py::module_& m) {
  using namespace py::literals;
  m.attr("LEAF_ROWS") = kLeafRows;
  m.def("loss_names", &loss_names);
  m.def("gradient", &gradient, "x"_a, "bits"_a, "scale"_a.none(true), "offset"_a.none(true), "noise"_a.none(true), "y"_a,
        "weight"_a.none(true), "w"_a, "bias"_a, "loss"_a, "parameter"_a, "precise"_a, "threads"_a, "out"_a);
  m.def("slopes", &slopes, "scores"_a, "y"_a, "weight"_a.none(true), "bias"_a, "loss"_a, "parameter"_a, "out"_a);
  m.def("product", &predict, "x"_a, "bits"_a, "scale"_a.none(true), "offset"_a.none(true), "w"_a, "bias"_a, "threads"_a,
        "out"_a);
  m.def("code_gram", &codes_gram, "x"_a, "bits"_a, "scale"_a, "offset"_a, "y"_a.none(true), "low"_a.none(true),
        "inverse"_a.none(true), "stochastic"_a, "seed"_a, "first_row"_a, "c"_a, "sum"_a, "leaves"_a, "threads"_a);
  m.def("gram", &gram, "x"_a, "bits"_a, "d"_a, "scale"_a.none(true), "offset"_a.none(true), "shift"_a.none(true),
        "y"_a.none(true), "weight"_a.none(true), "out"_a, "threads"_a);
  m.def("descend", &coordinate_descent, "a"_a, "w"_a, "q"_a, "l1"_a, "l2"_a, "tol"_a, "positive"_a, "sweeps"_a, "done"_a,
        "threads"_a);
}

}  // namespace scrimp
