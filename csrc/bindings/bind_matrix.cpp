#include "bindings/bind.h"
#include "bindings/matrix_arg.h"
#include "kernels/matrix.h"

namespace scrimp {
namespace {

// None, or (row, column) of the first NaN or infinity.
py::object ranges(const py::array& x, py::array low, py::array high, py::array integral, int threads) {
  const MatrixView view = matrix_view(x, "X");
  require(!view.is_codes(), "X must be a float array, got ", describe(x));
  double* lowest = out_array<double>(low, "low", view.d);
  double* highest = out_array<double>(high, "high", view.d);
  std::uint8_t* integers = out_array<std::uint8_t>(integral, "integral", view.d);
  NonfiniteAt at;
  {
    py::gil_scoped_release release;
    at = column_ranges(view, lowest, highest, integers, threads);
  }
  if (!at.found) return py::none();
  return py::make_tuple(at.row, at.column);
}

void quantize(const py::array& x, int bits, const py::array& low, const py::array& inverse, bool stochastic, std::uint64_t seed,
              std::uint64_t first_row, const std::optional<py::array>& weight, py::array codes, py::array noise, py::array sum,
              int threads) {
  QuantizeArgs args;
  args.x = matrix_view(x, "X");
  require(!args.x.is_codes(), "X must be a float array, got ", describe(x));
  require(static_cast<std::size_t>(low.size()) == args.x.d && low.size() == inverse.size(), "low and inverse must hold ",
          args.x.d, " values");
  args.bits = bits;
  args.low = in_array<double>(low, "low");
  args.inverse = in_array<double>(inverse, "inverse");
  args.stochastic = stochastic;
  args.seed = seed;
  args.first_row = first_row;
  args.weight = column_view(weight, "weight", args.x.n);
  args.threads = threads;
  code_view(codes, "codes", bits, args.x.d);
  require(static_cast<std::size_t>(codes.shape(0)) == args.x.n && codes.writeable(), "codes must be writeable with ", args.x.n,
          " rows");
  auto* out = static_cast<std::uint8_t*>(codes.mutable_data());
  const std::size_t size = n_leaves(args.x.n) * args.x.d;
  double* noises = out_array<double>(noise, "noise", size, 2);
  double* sums = out_array<double>(sum, "sum", size, 2);
  py::gil_scoped_release release;
  quantize_rows(args, out, noises, sums);
}

void dequantize(const py::array& codes, int bits, const py::array& scale, const py::array& offset, py::array out, int threads) {
  const std::size_t d = static_cast<std::size_t>(scale.size());
  const MatrixView view = code_view(codes, "codes", bits, d);
  const double* s = in_array<double>(scale, "scale");
  const double* o = in_array<double>(offset, "offset");
  require(static_cast<std::size_t>(offset.size()) == d, "offset must hold ", d, " values, got ", offset.size());
  float* values = out_array<float>(out, "out", view.n * d, 2);
  py::gil_scoped_release release;
  dequantize_rows(view, s, o, values, threads);
}

}  // namespace

void bind_matrix(py::module_& m) {
  using namespace py::literals;
  m.def("column_ranges", &ranges, "x"_a, "low"_a, "high"_a, "integral"_a, "threads"_a);
  m.def("quantize_rows", &quantize, "x"_a, "bits"_a, "low"_a, "inverse"_a, "stochastic"_a, "seed"_a, "first_row"_a,
        "weight"_a.none(true), "codes"_a, "noise"_a, "sum"_a, "threads"_a);
  m.def("dequantize_rows", &dequantize, "codes"_a, "bits"_a, "scale"_a, "offset"_a, "out"_a, "threads"_a);
}

}  // namespace scrimp
