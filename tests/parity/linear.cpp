// Digests of the kernels of linear models and of data in few bits: see digest.cpp.
#include <cstdio>

#include "digest.h"
#include "kernels/code_gram.h"
#include "kernels/gradient.h"
#include "kernels/gram.h"
#include "kernels/matmul.h"
#include "kernels/matrix.h"
#include "kernels/steps.h"
#include "kernels/table.h"

namespace {

using scrimp::Element;
using scrimp::MatrixView;

template <class T>
MatrixView view_of(const std::vector<T>& values, Element element, std::size_t n, std::size_t d) {
  MatrixView view;
  view.data = reinterpret_cast<const std::byte*>(values.data());
  view.element = element;
  view.n = n;
  view.d = d;
  view.row_stride = static_cast<std::ptrdiff_t>(d * sizeof(T));
  view.column_stride = sizeof(T);
  return view;
}

constexpr std::size_t kRows = 4096 + 77, kColumns = 149, kOutputs = 3;

template <class T>
void print_vector(const char* name, const char* detail, const std::vector<T>& values) {
  Digest digest;
  digest.add(values.data(), values.size() * sizeof(T));
  std::printf("%s %s %016llx\n", name, detail, digest.value());
}

struct Data {
  std::vector<float> x = values(kRows * kColumns);
  std::vector<double> wide{x.begin(), x.end()}, w, bias{0.5, 0.0, -1.0};
  std::vector<float> y = values(kRows * kOutputs);
  std::vector<double> low, high, inverse;

  Data() : w(wide.begin(), wide.begin() + kColumns * kOutputs), low(kColumns), high(kColumns), inverse(kColumns) {
    for (float& target : y) target = target > 0 ? 1.0f : 0.0f;
  }
};

void print_gradients(const Data& data, const MatrixView& x, const char* element) {
  for (std::size_t i = 0; i < scrimp::active_table().linear->n_losses; ++i)
    for (bool precise : {false, true}) {
      scrimp::GradientArgs args;
      args.x = x;
      args.k = kOutputs;
      args.w = data.w.data();
      args.bias = data.bias.data();
      args.y = view_of(data.y, Element::kF32, kRows, kOutputs);
      args.loss = scrimp::active_table().linear->losses[i].name;
      args.parameter = 1.0;
      args.precise = precise;
      std::vector<double> out(scrimp::n_leaves(kRows) * scrimp::gradient_width(kColumns, kOutputs));
      scrimp::gradient_leaves(args, out.data());
      print_vector(args.loss.c_str(), precise ? (std::string(element) + " precise").c_str() : element, out);
    }
}

void print_codes(Data& data, const MatrixView& x, int bits) {
  const std::string name = "codes" + std::to_string(bits);
  const double levels = (1 << bits) - 1;
  std::vector<std::uint8_t> integral(kColumns);
  scrimp::column_ranges(x, data.low.data(), data.high.data(), integral.data(), 1);
  for (std::size_t j = 0; j < kColumns; ++j) data.inverse[j] = levels / (data.high[j] - data.low[j]);
  const std::size_t row_nbytes = scrimp::packed_row_nbytes(kColumns, bits);
  std::vector<std::uint8_t> codes(kRows * row_nbytes);
  std::vector<double> noise(scrimp::n_leaves(kRows) * kColumns), sum(noise.size());
  for (bool stochastic : {true, false}) {
    scrimp::quantize_rows({x, bits, data.low.data(), data.inverse.data(), stochastic, 7, 4096, {}, 1}, codes.data(),
                          noise.data(), sum.data());
    print_vector(name.c_str(), stochastic ? "stochastic" : "nearest", codes);
    print_vector(name.c_str(), "noise", noise);
    print_vector(name.c_str(), "sums", sum);
  }
  MatrixView view = view_of(codes, bits == 8 ? Element::kI8 : bits == 4 ? Element::kU4 : bits == 2 ? Element::kU2 : Element::kU1,
                            kRows, kColumns);
  view.row_stride = static_cast<std::ptrdiff_t>(row_nbytes);
  view.column_stride = 1;
  std::vector<std::int64_t> gram(kColumns * kColumns), code_sum(kColumns);
  const std::vector<double> scale(kColumns, 0.3), offset(kColumns, 0.7);
  scrimp::CodeGramArgs args{view, nullptr, scale.data(), offset.data(), view_of(data.y, Element::kF32, kRows, kOutputs), 1};
  std::vector<double> leaves(scrimp::n_leaves(kRows) * scrimp::code_gram_width(kColumns, kOutputs, false));
  scrimp::code_gram(args, gram.data(), code_sum.data(), leaves.data());
  print_vector(name.c_str(), "gram", gram);
  print_vector(name.c_str(), "cross", leaves);
  print_gradients(data, view, name.c_str());
}

void print_products(const Data& data, const char* name, std::size_t d) {
  constexpr std::size_t kWeights = 7;
  const scrimp::Codec codec(name, {});
  scrimp::FloatView weights;
  weights.data = reinterpret_cast<const std::byte*>(data.x.data());
  weights.shape[0] = kWeights * d;
  weights.strides[0] = sizeof(float);
  std::vector<std::uint8_t> payload(codec.nbytes(kWeights * d));
  codec.encode(weights, payload.data(), {});
  const std::vector<float> bias(kWeights, 0.25f);
  for (std::size_t n : {1, 5, 70})
    for (bool round_rows : {false, true}) {
      scrimp::MatmulArgs args;
      args.x = view_of(data.x, Element::kF32, n, d);
      args.codec = &codec;
      args.w = payload.data();
      args.k = kWeights;
      args.bias = bias.data();
      args.round_rows = round_rows;
      std::vector<float> out(n * kWeights);
      scrimp::matmul(args, out.data());
      print_vector(("matmul " + std::string(name)).c_str(), round_rows ? "int8 rows" : "float rows", out);
    }
}

void print_steps(const Data& data, const MatrixView& x, const char* element) {
  std::vector<double> lower(kColumns * kColumns), scale(kColumns, 0.75);
  for (std::size_t i = 0; i < kColumns; ++i) {
    for (std::size_t j = 0; j < i; ++j) lower[i * kColumns + j] = data.wide[i * kColumns + j] / 64;
    lower[i * kColumns + i] = 1;
  }
  constexpr std::size_t kBatches = 40, kSize = (kColumns + 1) * kOutputs;
  std::vector<std::int64_t> order(kRows);
  for (std::size_t i = 0; i < kRows; ++i) order[i] = static_cast<std::int64_t>(i * 1000 % kRows);  // 1000 and 4173 share no factor
  const std::vector<float> rates(kBatches, 1e-4f);
  scrimp::StepsArgs args;
  args.units = {kColumns, kOutputs, true, false, data.wide.data(), data.bias.data(), scale.data(), scale.data(), lower.data()};
  args.rows.x = x;
  args.rows.k = kOutputs;
  args.rows.y = view_of(data.y, Element::kF32, kRows, kOutputs);
  args.rows.loss = "logistic";
  args.order = order.data();
  args.n_batches = args.n_steps = kBatches;
  args.rates = rates.data();
  args.momentum = 0.9f;
  std::vector<float> u(kSize), velocity(kSize);
  std::vector<double> mean(kSize);
  scrimp::StepsState state{u.data(), velocity.data(), mean.data(), 0, 0};
  scrimp::take_steps(args, state);
  print_vector("steps", element, u);
  print_vector("steps mean", element, mean);
}

}  // namespace

void print_linear_digests() {
  Data data;
  const MatrixView f32 = view_of(data.x, Element::kF32, kRows, kColumns), f64 = view_of(data.wide, Element::kF64, kRows, kColumns);
  for (int bits : {8, 4, 2, 1}) print_codes(data, bits == 8 ? f64 : f32, bits);
  for (const char* codec : {"int8", "int4"})
    for (std::size_t d : {640, 333}) print_products(data, codec, d);
  print_gradients(data, f32, "f32");
  print_gradients(data, f64, "f64");
  print_steps(data, f32, "f32");
  print_steps(data, f64, "f64");
  for (const MatrixView& x : {f32, f64}) {
    scrimp::GramArgs args;
    args.x = x;
    args.y = view_of(data.y, Element::kF32, kRows, kOutputs);
    args.weight = view_of(data.y, Element::kF32, kRows, kOutputs);
    args.weight.d = 1;
    const std::size_t m = kColumns + kOutputs + 1;
    std::vector<double> out(scrimp::n_leaves(kRows) * m * (m + 1) / 2);
    scrimp::gram_leaves(args, out.data());
    print_vector("gram", x.element == Element::kF32 ? "f32" : "f64", out);
  }
}
