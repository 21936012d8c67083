#include "bindings/array_arg.h"
#include "bindings/bind.h"
#include "core/crc32c.h"
#include "kernels/codec.h"

namespace scrimp {
namespace {

Nonfinite nonfinite_policy(const std::string& name) {
  if (name == "raise") return Nonfinite::kRaise;
  if (name == "saturate") return Nonfinite::kSaturate;
  require(name == "propagate", "nonfinite must be 'raise', 'saturate' or 'propagate', got '", name, "'");
  return Nonfinite::kPropagate;
}

ScaleRule scale_rule(const std::string& name) {
  static const std::pair<const char*, ScaleRule> kRules[] = {
      {"absmax", ScaleRule::kAbsmax}, {"mse", ScaleRule::kMse},     {"unbiased", ScaleRule::kUnbiased},
      {"floor", ScaleRule::kFloor},   {"rceil", ScaleRule::kRceil}, {"even", ScaleRule::kEven}};
  for (const auto& [known, rule] : kRules)
    if (name == known) return rule;
  require(name == "default", "unknown scale rule '", name, "'");
  return ScaleRule::kDefault;
}

Codec make_codec(const std::string& name, const std::string& rounding, const std::string& scale, float step, float ratio,
                 std::uint32_t variant) {
  CodecOptions options;
  require(rounding == "nearest" || rounding == "stochastic", "unknown rounding '", rounding, "'");
  options.rounding = rounding == "stochastic" ? Rounding::kStochastic : Rounding::kNearest;
  options.scale = scale_rule(scale);
  options.step = step;
  options.ratio = ratio;
  options.variant = variant;
  return {name, options};
}

py::list codec_names() {
  py::list names;
  const KernelTable& table = active_table();
  for (std::size_t i = 0; i < table.n_codecs; ++i)
    if (!names.contains(table.codecs[i].name)) names.append(table.codecs[i].name);
  return names;
}

// What may follow the colon: option → list of values, the default first, or the kind of number.
py::dict codec_choices(const std::string& name) {
  const CodecKernels& first = Codec(name, {.step = 1.0f}).kernels();
  const auto listed = [](auto... values) { return py::make_tuple(values...); };
  py::dict choices;
  if (first.choices & kStepChoice) choices["k"] = "positive";
  if (first.choices & kRatioChoice) choices["ratio"] = "share";
  if (first.choices & kRoundingChoice) choices["rounding"] = listed("nearest", "stochastic");
  if (first.choices & kScaleChoice) choices["scale"] = listed("absmax", "mse");
  if (first.choices & kRotationChoice) choices["scale"] = listed("mse", "unbiased");
  if (first.choices & kMicroscaleChoice) choices["scale"] = listed("floor", "rceil", "even");
  if (!first.variant_key) return choices;
  py::list variants;
  const KernelTable& table = active_table();
  for (std::size_t i = 0; i < table.n_codecs; ++i)
    if (name == table.codecs[i].name) variants.append(std::to_string(table.codecs[i].variant));
  choices[first.variant_key] = py::tuple(variants);
  return choices;
}

Feedback feedback_kind(const std::string& name) {
  if (name == "none") return Feedback::kNone;
  if (name == "ef14") return Feedback::kEf14;
  require(name == "ef21", "feedback must be 'none', 'ef14' or 'ef21', got '", name, "'");
  return Feedback::kEf21;
}

void encode(const Codec& codec, const py::array& x, py::array out, std::uint64_t seed, std::uint64_t step,
            std::uint64_t first_index, const std::string& nonfinite, int threads, const std::string& feedback,
            py::object state) {
  const FloatView view = float_view(x, "x");
  std::uint8_t* payload = out_array<std::uint8_t>(out, "out", codec.nbytes(view.size()));
  require_apart(x, "x", out, "out");
  Codec::EncodeArgs args{seed, step, first_index, nonfinite_policy(nonfinite), threads, feedback_kind(feedback)};
  if (args.feedback != Feedback::kNone) {
    py::array residual = py::cast<py::array>(state);
    args.state = out_array<float>(residual, "state", view.size(), -1);
    require_apart(residual, "state", out, "out");
  }
  std::size_t bad;
  {
    py::gil_scoped_release release;
    bad = codec.encode(view, payload, args);
  }
  if (bad == kAllEncoded) return;
  float value;
  view.read(bad, 1, &value);
  require(false, "x[", bad, "] = ", value, " cannot be encoded by ", codec.kernels().name);
}

void decode(const Codec& codec, const py::array& buf, std::size_t n, py::array out, bool add, int threads) {
  const std::uint8_t* payload = in_array<std::uint8_t>(buf, "buf");
  require(static_cast<std::size_t>(buf.size()) == codec.nbytes(n), "buf must hold ", codec.nbytes(n), " bytes for ", n, " ",
          codec.kernels().name, " values, got ", buf.size());
  float* values = out_array<float>(out, "out", n, -1);
  require_apart(buf, "buf", out, "out");
  py::gil_scoped_release release;
  codec.decode(payload, n, values, add, threads);
}

std::uint32_t crc32c_of(const py::buffer& data, std::uint32_t crc) {
  const py::buffer_info info = data.request();
  require(PyBuffer_IsContiguous(info.view(), 'C'), "data must be contiguous");
  py::gil_scoped_release release;
  return crc32c(static_cast<const std::uint8_t*>(info.ptr), static_cast<std::size_t>(info.size * info.itemsize), crc);
}

}  // namespace

void bind_codecs(py::module_& m) {
  using namespace py::literals;
  m.def("codec_names", &codec_names);
  m.def("codec_choices", &codec_choices, "name"_a);
  m.def("crc32c", &crc32c_of, "data"_a, "crc"_a = 0);
  py::class_<Codec>(m, "NativeCodec")
      .def(py::init(&make_codec), "name"_a, "rounding"_a = "nearest", "scale"_a = "default", "step"_a = 0.0f,
           "ratio"_a = 0.01f, "variant"_a = 0)
      .def_property_readonly("block", [](const Codec& c) { return c.kernels().block; })
      .def_property_readonly("block_nbytes", [](const Codec& c) { return c.block_nbytes(); })
      .def_property_readonly("passes_nonfinite", [](const Codec& c) { return c.kernels().passes_nonfinite; })
      .def_property_readonly("contractive", [](const Codec& c) { return c.contractive(); })
      .def("bound", [](const Codec& c, const py::array& x) { return c.bound(float_view(x, "x")); }, "x"_a)
      .def("nbytes", &Codec::nbytes, "n"_a)
      .def("encode", &encode, "x"_a, "out"_a, "seed"_a, "step"_a, "first_index"_a, "nonfinite"_a, "threads"_a,
           "feedback"_a = "none", "state"_a = py::none())
      .def("decode", &decode, "buf"_a, "n"_a, "out"_a, "add"_a, "threads"_a);
}

}  // namespace scrimp
