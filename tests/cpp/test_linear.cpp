// Gradients, Gram matrices and codes against plain float64 loops, at sizes where blocks, registers and leaves end; what
// the sanitizers run.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "core/rng.h"
#include "kernels/code_gram.h"
#include "kernels/gradient.h"
#include "kernels/gram.h"
#include "kernels/matrix.h"
#include "kernels/steps.h"
#include "kernels/table.h"

namespace scrimp {
namespace {

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

std::vector<float> uniform(std::size_t n, std::uint64_t seed) {
  std::vector<float> x(n);
  for (std::size_t i = 0; i < n; ++i) x[i] = static_cast<float>(mix64(seed * n + i) >> 40) * 0x1p-24f - 0.5f;
  return x;
}

class Sizes : public testing::TestWithParam<std::pair<std::size_t, std::size_t>> {};

TEST_P(Sizes, GradientEqualsTheFormula) {
  const auto [n, d] = GetParam();
  const std::vector<float> x = uniform(n * d, 1), y = uniform(n, 2);
  const std::vector<double> w(d, 0.25), bias{0.5};
  GradientArgs args;
  args.x = view_of(x, Element::kF32, n, d);
  args.w = w.data();
  args.bias = bias.data();
  args.y = view_of(y, Element::kF32, n, 1);
  args.threads = 3;
  for (bool precise : {false, true}) {
    args.precise = precise;
    std::vector<double> out(n_leaves(n) * gradient_width(d, 1)), expected(d);
    gradient_leaves(args, out.data());
    for (std::size_t i = 0; i < n; ++i) {
      double r = 0.5 - y[i];
      for (std::size_t j = 0; j < d; ++j) r += x[i * d + j] * 0.25;
      for (std::size_t j = 0; j < d; ++j) expected[j] += r * x[i * d + j];
    }
    for (std::size_t j = 0; j < d; ++j) {
      double sum = 0;
      for (std::size_t l = 0; l < n_leaves(n); ++l) sum += out[l * gradient_width(d, 1) + j];
      EXPECT_NEAR(sum, expected[j], (precise ? 1e-9 : 1e-4) * (1.0 + static_cast<double>(n) / 100));
    }
  }
}

TEST_P(Sizes, GradientOfCodesEqualsTheFormula) {
  const auto [n, d] = GetParam();
  const std::vector<float> y = uniform(n, 5), weights = uniform(d, 6);
  const std::vector<double> w(weights.begin(), weights.end()), bias{0.5};
  for (int bits : {8, 4}) {
    const std::size_t row_nbytes = packed_row_nbytes(d, bits), h = (d + 1) / 2;
    std::vector<std::uint8_t> bytes(n * row_nbytes);
    for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::uint8_t>(mix64(i) >> 56);
    GradientArgs args;
    args.x = view_of(bytes, bits == 8 ? Element::kI8 : Element::kU4, n, d);
    args.x.row_stride = static_cast<std::ptrdiff_t>(row_nbytes);
    args.w = w.data();
    args.bias = bias.data();
    args.y = view_of(y, Element::kF32, n, 1);
    args.threads = 2;
    std::vector<double> out(n_leaves(n) * gradient_width(d, 1)), expected(d), size(d);
    gradient_leaves(args, out.data());
    for (std::size_t i = 0; i < n; ++i) {
      const std::uint8_t* row = bytes.data() + i * row_nbytes;
      const auto code = [&](std::size_t j) {
        if (bits == 8) return static_cast<int>(static_cast<std::int8_t>(row[j]));
        return (j < h ? row[j] & 15 : row[j - h] >> 4) - 8;
      };
      double r = 0.5 - y[i];
      for (std::size_t j = 0; j < d; ++j) r += code(j) * w[j];
      for (std::size_t j = 0; j < d; ++j) expected[j] += r * code(j), size[j] += std::abs(r * code(j));
    }
    for (std::size_t j = 0; j < d; ++j) {
      double sum = 0;
      for (std::size_t l = 0; l < n_leaves(n); ++l) sum += out[l * gradient_width(d, 1) + j];
      EXPECT_NEAR(sum, expected[j], 1e-5 * (size[j] + 1000));
    }
  }
}

TEST_P(Sizes, CodesAreNearTheirValuesAndTheirGramIsExact) {
  const auto [n, d] = GetParam();
  const std::vector<float> x = uniform(n * d, 3);
  const MatrixView rows = view_of(x, Element::kF32, n, d);
  const std::vector<double> low(d, -0.5), scale(d, 1.0 / 255), inverse(d, 255.0), offset(d, -0.5 + 128.0 / 255);
  std::vector<std::int8_t> codes(n * d);
  std::vector<double> noise(n_leaves(n) * d), sum(noise.size());
  quantize_rows({rows, 8, low.data(), inverse.data(), true, 1, 0, {}, 2}, reinterpret_cast<std::uint8_t*>(codes.data()),
                noise.data(), sum.data());
  for (std::size_t i = 0; i < n * d; ++i) EXPECT_NEAR(offset[0] + scale[0] * codes[i], x[i], 1.001 / 255);
  std::vector<std::int64_t> c(d * d), code_sum(d);
  std::vector<double> leaves(n_leaves(n) * code_gram_width(d, 0, false));
  code_gram({view_of(codes, Element::kI8, n, d), nullptr, scale.data(), offset.data(), {}, 3}, c.data(), code_sum.data(),
            leaves.data());
  for (std::size_t i = 0; i < d; ++i)
    for (std::size_t j = 0; j < d; ++j) {
      std::int64_t expected = 0;
      for (std::size_t r = 0; r < n; ++r) expected += codes[r * d + i] * codes[r * d + j];
      ASSERT_EQ(c[i * d + j], expected);
    }
}

TEST_P(Sizes, PackedRowsComeBack) {
  const auto [n, d] = GetParam();
  const std::vector<float> x = uniform(n * d, 4);
  for (int bits : {4, 2, 1}) {
    const double levels = (1 << bits) - 1;
    const std::vector<double> low(d, -0.5), scale(d, 1 / levels), inverse(d, levels), offset(d, -0.5 + (1 << (bits - 1)) / levels);
    std::vector<std::uint8_t> packed(n * packed_row_nbytes(d, bits));
    std::vector<double> noise(n_leaves(n) * d), sum(noise.size());
    quantize_rows({view_of(x, Element::kF32, n, d), bits, low.data(), inverse.data(), false, 0, 0, {}, 1}, packed.data(),
                  noise.data(), sum.data());
    MatrixView view = view_of(packed, bits == 4 ? Element::kU4 : bits == 2 ? Element::kU2 : Element::kU1, n, d);
    view.row_stride = static_cast<std::ptrdiff_t>(packed_row_nbytes(d, bits));
    std::vector<float> back(n * d);
    dequantize_rows(view, scale.data(), offset.data(), back.data(), 2);
    for (std::size_t i = 0; i < n * d; ++i) ASSERT_NEAR(back[i], x[i], 0.5001 / levels);
  }
}

INSTANTIATE_TEST_SUITE_P(Kernels, Sizes,
                         testing::Values(std::pair{1, 1}, std::pair{7, 3}, std::pair{8, 16}, std::pair{9, 33},
                                         std::pair{513, 31}, std::pair{40, 200}, std::pair{4097, 17}));

// What a solve leaves of its right-hand side is rounding, at sizes around those of a block.
TEST(Triangular, SolvesAreExactToRounding) {
  for (std::size_t n = 1; n < 40; ++n)
    for (std::size_t k : {1, 3}) {
      std::vector<double> lower(n * n, std::nan(""));  // what is above the diagonal has no influence
      const std::vector<float> values = uniform(n * n + k * n, n);
      for (std::size_t i = 0; i < n; ++i) {
        for (std::size_t j = 0; j < i; ++j) lower[i * n + j] = values[i * n + j];
        lower[i * n + i] = 1.5;
      }
      const std::vector<double> b(values.end() - static_cast<std::ptrdiff_t>(k * n), values.end());
      std::vector<double> x = b, z = b;
      active_table().linear->solve_lower({lower.data(), n, k, x.data()});
      active_table().linear->solve_lower_transposed({lower.data(), n, k, z.data()});
      for (std::size_t o = 0; o < k; ++o)
        for (std::size_t i = 0; i < n; ++i) {
          double forward = 0, backward = 0;
          for (std::size_t j = 0; j <= i; ++j) forward += lower[i * n + j] * x[o * n + j];
          for (std::size_t j = i; j < n; ++j) backward += lower[j * n + i] * z[o * n + j];
          EXPECT_NEAR(forward, b[o * n + i], 1e-12);
          EXPECT_NEAR(backward, b[o * n + i], 1e-12);
        }
    }
}

TEST(Steps, AStepFollowsTheGradientOfItsRows) {
  constexpr std::size_t kRows = 21, kColumns = 5;
  const std::vector<float> x = uniform(kRows * kColumns, 1), y = uniform(kRows, 2);
  const std::vector<double> zero(kColumns), one(kColumns, 1.0);
  std::vector<std::int64_t> order(kRows);
  for (std::size_t i = 0; i < kRows; ++i) order[i] = static_cast<std::int64_t>(i * 8 % kRows);
  const std::vector<float> rates{0.5f};
  std::vector<float> u(kColumns);
  for (std::size_t batch = 0; batch < 3; ++batch) {
    StepsArgs args;
    args.units = {kColumns, 1, false, false, zero.data(), zero.data(), zero.data(), one.data(), nullptr};
    args.rows.x = view_of(x, Element::kF32, kRows, kColumns);
    args.rows.y = view_of(y, Element::kF32, kRows, 1);
    args.order = order.data();
    args.n_batches = 3;
    args.first_batch = batch;
    args.n_steps = 1;
    args.rates = rates.data();
    std::fill(u.begin(), u.end(), 0.0f);
    StepsState state{u.data(), nullptr, nullptr, 0, 0};
    ASSERT_EQ(take_steps(args, state), 1u);
    for (std::size_t j = 0; j < kColumns; ++j) {
      double sum = 0;
      for (std::size_t i = 7 * batch; i < 7 * (batch + 1); ++i) sum += x[static_cast<std::size_t>(order[i]) * kColumns + j] * y[static_cast<std::size_t>(order[i])];
      EXPECT_NEAR(u[j], 0.5 * sum / 7, 1e-6);
    }
  }
}

}  // namespace
}  // namespace scrimp
