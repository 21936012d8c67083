// Products with weights in few bits against the definition in plain C++, bit for bit, at sizes where blocks, tiles and
// registers end; each argument ends where its array ends, so that sanitizers see every read beyond. ctest runs this once
// per ISA (SCRIMP_ISA).
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <vector>

#include "core/fp_env.h"
#include "core/rng.h"
#include "kernels/matmul.h"

namespace scrimp {
namespace {

std::vector<float> uniform(std::size_t n, std::uint64_t seed) {
  std::vector<float> x(n);
  for (std::size_t i = 0; i < n; ++i) x[i] = static_cast<float>(mix64(seed * 1000003 + i) >> 40) * 0x1p-24f - 0.5f;
  return x;
}

float add_lanes(float* lane) {
  for (std::size_t width = 8; width; width /= 2)
    for (std::size_t j = 0; j < width; ++j) lane[j] += lane[j + width];
  return lane[0];
}

struct Problem {
  std::size_t n, k, d;
  Codec codec;
  std::vector<float> x, bias, decoded;
  std::vector<std::uint8_t> w;

  Problem(const char* name, std::size_t n_rows, std::size_t outputs, std::size_t inputs)
      : n(n_rows), k(outputs), d(inputs), codec(name, {}), x(uniform(n * d, 1)), bias(uniform(k, 2)), decoded(k * d),
        w(codec.nbytes(k * d)) {
    const std::vector<float> weights = uniform(k * d, 3);
    FloatView view;
    view.data = reinterpret_cast<const std::byte*>(weights.data());
    view.shape[0] = k * d;
    view.strides[0] = sizeof(float);
    EXPECT_EQ(codec.encode(view, w.data(), {}), kAllEncoded);
    codec.decode(w.data(), k * d, decoded.data(), false, 1);
  }

  std::vector<float> multiply(bool round_rows, int threads) const {
    MatmulArgs args;
    args.x.data = reinterpret_cast<const std::byte*>(x.data());
    args.x.n = n;
    args.x.d = d;
    args.x.row_stride = static_cast<std::ptrdiff_t>(d * sizeof(float));
    args.x.column_stride = sizeof(float);
    args.codec = &codec;
    args.w = w.data();
    args.k = k;
    args.bias = bias.data();
    args.round_rows = round_rows;
    args.threads = threads;
    std::vector<float> out(n * k, -1.0f);
    matmul(args, out.data());
    return out;
  }

  float by_definition(std::size_t i, std::size_t o) const {
    float lane[16] = {};
    for (std::size_t j = 0; j < d; ++j) lane[j % 16] += x[i * d + j] * decoded[o * d + j];
    return add_lanes(lane) + bias[o];
  }

  // Whole blocks only.
  float codes_by_definition(std::size_t i, std::size_t o) const {
    float top = 0, lane[16] = {};
    for (std::size_t j = 0; j < d; ++j) top = std::fmax(top, std::fabs(x[i * d + j]));
    const float scale = top / 127.0f, inverse = 1.0f / scale;
    for (std::size_t b = o * d; b < (o + 1) * d; b += 128) {
      float block_scale;
      std::memcpy(&block_scale, w.data() + codec.nbytes(b), sizeof block_scale);
      std::int32_t sum[16] = {};
      for (std::size_t j = 0; j < 128; ++j) {
        const auto code = static_cast<std::int32_t>(std::lrintf(decoded[b + j] / block_scale));
        sum[j / 4 % 16] += static_cast<std::int32_t>(std::rintf(x[i * d + b - o * d + j] * inverse)) * code;
      }
      for (std::size_t l = 0; l < 16; ++l) lane[l] += static_cast<float>(sum[l]) * block_scale;
    }
    return add_lanes(lane) * scale + bias[o];
  }
};

class Shapes : public testing::TestWithParam<std::tuple<const char*, std::size_t, std::size_t, std::size_t>> {};

TEST_P(Shapes, EveryBitIsThatOfTheDefinition) {
  const auto [name, n, k, d] = GetParam();
  const FpEnv ieee;
  const Problem problem(name, n, k, d);
  for (int threads : {1, 3}) {
    const std::vector<float> out = problem.multiply(false, threads);
    for (std::size_t i = 0; i < n; ++i)
      for (std::size_t o = 0; o < k; ++o) ASSERT_EQ(out[i * k + o], problem.by_definition(i, o)) << i << ' ' << o;
    const std::vector<float> rounded = problem.multiply(true, threads);
    for (std::size_t i = 0; i < n && d % 128 == 0; ++i)
      for (std::size_t o = 0; o < k; ++o) ASSERT_EQ(rounded[i * k + o], problem.codes_by_definition(i, o)) << i << ' ' << o;
  }
}

INSTANTIATE_TEST_SUITE_P(Kernels, Shapes,
                         testing::Combine(testing::Values("int8", "int4"), testing::Values(1, 2, 5, 67),
                                          testing::Values(1, 4, 35), testing::Values(1, 33, 128, 130, 512, 640, 1029)));

}  // namespace
}  // namespace scrimp
