#include "bindings/bind.h"
#include "bindings/matrix_arg.h"
#include "kernels/matmul.h"

namespace scrimp {
namespace {

void multiply(const py::array& x, int bits, const std::optional<py::array>& scale, const std::optional<py::array>& offset,
              const Codec& codec, const py::array& w, const py::array& bias, std::size_t d, bool round_rows, int threads,
              py::array out) {
  MatmulArgs args;
  args.x = rows_view(x, bits, d);
  args.scale = optional_doubles(scale, "scale", d);
  args.offset = optional_doubles(offset, "offset", d);
  args.codec = &codec;
  args.k = static_cast<std::size_t>(bias.size());
  args.bias = in_array<float>(bias, "bias");
  args.w = in_array<std::uint8_t>(w, "w");
  const std::size_t needed = codec.nbytes(args.k * d);
  require(static_cast<std::size_t>(w.size()) == needed, "w must hold ", needed, " bytes for (", args.k, ", ", d, ") ",
          codec.kernels().name, " weights, got ", w.size());
  args.round_rows = round_rows;
  args.threads = threads;
  float* values = out_array<float>(out, "out", args.x.n * args.k, 2);
  py::gil_scoped_release release;
  matmul(args, values);
}

}  // namespace

void bind_matmul(py::module_& m) {
  using namespace py::literals;
  m.def("matmul", &multiply, "x"_a, "bits"_a, "scale"_a.none(true), "offset"_a.none(true), "codec"_a, "w"_a, "bias"_a, "d"_a,
        "round_rows"_a, "threads"_a, "out"_a);
}

}  // namespace scrimp
