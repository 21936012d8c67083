// Every codec of the table, driven through the native interface alone: what the sanitizers watch.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <vector>

#include "kernels/codec.h"
#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace scrimp {
namespace {

const std::size_t kLengths[] = {0, 1, 2, 3, 127, 128, 129, 1021, 16384, 40961};

std::vector<float> normal_values(std::size_t n) {
  std::mt19937 generator(static_cast<unsigned>(n));
  std::normal_distribution<float> normal;
  std::vector<float> x(n);
  for (float& value : x) value = normal(generator);
  return x;
}

FloatView view_of(const std::vector<float>& x) {
  FloatView view;
  view.data = reinterpret_cast<const std::byte*>(x.data());
  view.shape[0] = x.size();
  view.strides[0] = sizeof(float);
  return view;
}

std::vector<Codec> all_codecs() {
  std::vector<Codec> codecs;
  const KernelTable& table = active_table();
  for (std::size_t i = 0; i < table.n_codecs; ++i)
    for (Rounding rounding : {Rounding::kNearest, Rounding::kStochastic}) {
      CodecOptions options;
      options.rounding = rounding;
      options.step = 0.125f;
      options.variant = table.codecs[i].variant;
      codecs.emplace_back(table.codecs[i].name, options);
    }
  return codecs;
}

std::vector<std::uint8_t> encode(const Codec& codec, const std::vector<float>& x, int threads) {
  std::vector<std::uint8_t> payload(codec.nbytes(x.size()));
  codec.encode(view_of(x), payload.data(), {7, 3, 0, Nonfinite::kPropagate, threads});
  return payload;
}

TEST(Codecs, EveryLengthIsWrittenWithinItsPayloadAndReadBack) {
  for (const Codec& codec : all_codecs())
    for (std::size_t n : kLengths) {
      const auto x = normal_values(n);
      const auto payload = encode(codec, x, 1);
      std::vector<float> y(n), sum = x;
      codec.decode(payload.data(), n, y.data(), false, 1);
      codec.decode(payload.data(), n, sum.data(), true, 1);
      for (std::size_t i = 0; i < n; ++i) ASSERT_EQ(sum[i], x[i] + y[i]) << codec.kernels().name << " at " << i;
    }
}

TEST(Codecs, BytesDoNotDependOnThreads) {
  for (const Codec& codec : all_codecs()) {
    const auto x = normal_values(100003);
    EXPECT_EQ(encode(codec, x, 1), encode(codec, x, 4)) << codec.kernels().name;
  }
}

TEST(Codecs, AnyBytesDecodeWithoutFault) {
  std::mt19937 generator(1);
  for (const Codec& codec : all_codecs())
    for (std::size_t n : kLengths) {
      std::vector<std::uint8_t> payload(codec.nbytes(n));
      for (auto& byte : payload) byte = static_cast<std::uint8_t>(generator());
      std::vector<float> y(n);
      codec.decode(payload.data(), n, y.data(), false, 2);
    }
}

#if defined(__x86_64__)
TEST(Codecs, AHostThatFlushesDenormalsToZeroGetsTheSameBytes) {
  for (const Codec& codec : all_codecs()) {
    auto x = normal_values(3000);
    for (float& value : x) value *= 1e-40f;
    const auto expected = encode(codec, x, 2);
    const unsigned before = _mm_getcsr();
    _mm_setcsr(before | 0x8040);
    const auto payload = encode(codec, x, 2);
    const unsigned after = _mm_getcsr();
    _mm_setcsr(before);
    EXPECT_EQ(payload, expected) << codec.kernels().name;
    EXPECT_EQ(after & 0x8040u, 0x8040u);
  }
}
#endif

TEST(Codecs, NonfiniteValuesAreRefusedReplacedOrPoisoned) {
  for (const Codec& codec : all_codecs()) {
    auto x = normal_values(300);
    x[200] = std::numeric_limits<float>::quiet_NaN();
    x[260] = -std::numeric_limits<float>::infinity();
    std::vector<std::uint8_t> payload(codec.nbytes(x.size()));
    EXPECT_EQ(codec.encode(view_of(x), payload.data(), {0, 0, 0, Nonfinite::kRaise, 1}), 200u) << codec.kernels().name;
    codec.encode(view_of(x), payload.data(), {0, 0, 0, Nonfinite::kSaturate, 1});
    codec.encode(view_of(x), payload.data(), {0, 0, 0, Nonfinite::kPropagate, 1});
  }
}

}  // namespace
}  // namespace scrimp
