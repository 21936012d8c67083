// The kernels of the active ISA against the codecs' headers, compiled here as plain C++: same bytes, whatever leaf or group
// loop did the work. ctest runs this once per ISA (SCRIMP_ISA).
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "codecs/block.h"
#include "codecs/list.h"
#include "core/fp_env.h"
#include "kernels/codec.h"

namespace scrimp {
namespace {

struct Sample {
  std::string name;
  std::vector<float> x;
};

// Blocks of every kind side by side: a group must not let one of them disturb the others.
std::vector<Sample> samples(std::size_t n) {
  std::mt19937 generator(7);
  std::normal_distribution<float> normal;
  std::vector<float> plain(n), mixed(n);
  for (float& value : plain) value = normal(generator);
  const float sizes[] = {1.0f, 0.0f, 1e-30f, 1e-42f, 1e30f, 3e38f, 127.0f, 1e-38f};
  for (std::size_t i = 0; i < n; ++i) {
    const float size = sizes[i / 512 % 8];
    mixed[i] = i % 37 ? std::remainder(plain[i], 1.0f) * size : -0.0f;
    if (i % 101 == 0) mixed[i] = size;  // the largest of its block, exactly
  }
  std::vector<float> halves(n), bad = plain;
  for (std::size_t i = 0; i < n; ++i) halves[i] = static_cast<float>(static_cast<int>(generator() % 255) - 127) + (i % 3 ? 0.5f : 0.0f);
  std::vector<float> sparse(n);  // many of their rotated values are zeros, of both signs
  for (std::size_t i = 0; i < n; i += 64 + 64 * (i / 1024 % 3)) sparse[i] = static_cast<float>(static_cast<int>(i % 5) - 2);
  const float nonfinite[] = {std::nanf(""), INFINITY, -INFINITY};
  for (std::size_t i = 5, k = 0; i < n; i += 977, ++k) bad[i] = nonfinite[k % 3];
  return {{"normal", plain}, {"mixed", mixed}, {"halves", halves}, {"sparse", sparse}, {"non-finite", bad}};
}

std::vector<float> sample(std::size_t n, const std::string& name) {
  for (Sample& each : samples(n))
    if (each.name == name) return std::move(each.x);
  throw std::out_of_range(name);
}

template <class C>
std::vector<std::uint8_t> as_the_header_says(const std::vector<float>& x, const CodecOptions& o, const Codec::EncodeArgs& args) {
  const std::uint32_t stride = C::nbytes(C::kBlock, o);
  const std::uint64_t key = rng_key(args.seed, args.step);
  std::vector<std::uint8_t> out;
  for (std::size_t i = 0; i < x.size(); i += C::kBlock) {
    const std::uint32_t n = static_cast<std::uint32_t>(std::min<std::size_t>(C::kBlock, x.size() - i));
    typename C::Block b;
    memset(&b, 0, sizeof b);
    bool encoded;
    if (o.rounding == Rounding::kStochastic)
      encoded = encode_block<C, true>(x.data() + i, n, o, args.nonfinite, key, args.first_index + i, b);
    else
      encoded = encode_block<C, false>(x.data() + i, n, o, args.nonfinite, key, args.first_index + i, b);
    EXPECT_TRUE(encoded);
    const auto* bytes = reinterpret_cast<const std::uint8_t*>(&b);
    out.insert(out.end(), bytes, bytes + (n == C::kBlock ? stride : C::nbytes(n, o)));
  }
  return out;
}

template <class C>
std::vector<float> as_the_header_decodes(const std::vector<std::uint8_t>& payload, std::size_t n, const CodecOptions& o) {
  std::vector<float> y(n);
  const std::uint32_t stride = C::nbytes(C::kBlock, o);
  for (std::size_t i = 0, at = 0; i < n; i += C::kBlock, at += stride) {
    const std::uint32_t count = static_cast<std::uint32_t>(std::min<std::size_t>(C::kBlock, n - i));
    typename C::Block b;
    memset(&b, 0, sizeof b);
    memcpy(&b, payload.data() + at, count == C::kBlock ? stride : C::nbytes(count, o));
    C::decode(b, count, o, y.data() + i);
  }
  return y;
}

FloatView view_of(const std::vector<float>& x) {
  FloatView view;
  view.data = reinterpret_cast<const std::byte*>(x.data());
  view.shape[0] = x.size();
  view.strides[0] = sizeof(float);
  return view;
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

template <class C>
void expect_header_bytes(const CodecOptions& o, const Sample& sample, std::uint64_t first_index) {
  SCOPED_TRACE(std::string(C::kName) + " block " + std::to_string(C::kBlock) + " scale " +
               std::to_string(static_cast<int>(o.scale)) + (o.rounding == Rounding::kStochastic ? " stochastic " : " nearest ") +
               sample.name + " from " + std::to_string(first_index));
  const Codec codec(C::kName, o);
  const Codec::EncodeArgs args{.seed = 3, .step = 1, .first_index = first_index, .nonfinite = Nonfinite::kSaturate, .threads = 1};
  std::vector<std::uint8_t> payload(codec.nbytes(sample.x.size()));
  ASSERT_EQ(codec.encode(view_of(sample.x), payload.data(), args), kAllEncoded);
  FpEnv ieee;
  ASSERT_EQ(payload, as_the_header_says<C>(sample.x, o, args));
  std::vector<float> y(sample.x.size()), sum = sample.x;
  codec.decode(payload.data(), y.size(), y.data(), false, 1);
  const std::vector<float> expected = as_the_header_decodes<C>(payload, y.size(), o);
  ASSERT_TRUE(same_bits(y, expected));
  codec.decode(payload.data(), y.size(), sum.data(), true, 1);
  for (std::size_t i = 0; i < y.size(); ++i)
    ASSERT_EQ(std::isnan(sum[i]) ? 0 : sum[i], std::isnan(sum[i]) ? 0 : sample.x[i] + expected[i]);
}

std::vector<ScaleRule> rules_of(std::uint32_t choices) {
  if (choices & kScaleChoice) return {ScaleRule::kDefault, ScaleRule::kAbsmax, ScaleRule::kMse};
  if (choices & kMicroscaleChoice) return {ScaleRule::kFloor, ScaleRule::kRceil, ScaleRule::kEven};
  if (choices & kRotationChoice) return {ScaleRule::kMse, ScaleRule::kUnbiased};
  return {ScaleRule::kDefault};
}

template <class C>
void expect_header_bytes_everywhere() {
  const std::size_t n = C::kBlock <= 256 ? 40 * C::kBlock + 7 : 3 * C::kBlock + 7;
  for (const Sample& sample : samples(n))
    for (ScaleRule scale : rules_of(C::kChoices))
      for (Rounding rounding : {Rounding::kNearest, Rounding::kStochastic}) {
        if (rounding == Rounding::kStochastic && !(C::kChoices & kRoundingChoice)) continue;
        CodecOptions o;
        o.rounding = rounding;
        o.scale = scale;
        o.ratio = 0.05f;
        o.variant = C::kVariantKey ? C::kBlock : 0;
        for (std::uint64_t first : {std::uint64_t{0}, std::uint64_t{32}, std::uint64_t{5}, (std::uint64_t{1} << 33) - 1024})
          expect_header_bytes<C>(o, sample, first);
      }
}

TEST(Kernels, BlocksAreTheBytesThatTheHeadersDefine) {
#define SCRIMP_EXPECT(...) expect_header_bytes_everywhere<__VA_ARGS__>();
  SCRIMP_BLOCK_CODECS(SCRIMP_EXPECT)
#undef SCRIMP_EXPECT
}

// Why stochastic codes at the scale of the largest value need no clamp: its own product never rounds beyond the top, and no
// other product is larger. Powers of two scale all three roundings, so one octave shows it.
TEST(Kernels, NoStochasticCodeLeavesTheLevelsAtTheLargestScale) {
  for (float levels : {127.0f, 7.0f}) {
    float most = 0;
    for (std::uint32_t bits = float_bits(1.0f); bits < float_bits(2.0f); ++bits)
      most = std::max(most, bits_float(bits) * (1.0f / (bits_float(bits) / levels) * 65536.0f));
    EXPECT_EQ(std::rint(most), levels * 65536.0f);
  }
}

// Payloads that no encoder has written: any codes, seeds and scales.
template <class C>
void expect_any_bytes_decode() {
  CodecOptions o;
  o.scale = ScaleRule::kMse;
  o.variant = C::kBlock;
  const std::size_t n = 24 * C::kBlock;
  std::mt19937 generator(11);
  std::vector<std::uint8_t> payload(24 * sizeof(typename C::Block));
  for (std::uint8_t& byte : payload) byte = static_cast<std::uint8_t>(generator());
  const float scales[] = {std::nanf(""), INFINITY, -INFINITY, 0.0f, -0.0f, 1e-45f, 3e38f, -1.0f};
  for (std::size_t k = 0; k < 24; ++k) {
    auto* b = reinterpret_cast<typename C::Block*>(payload.data()) + k;
    if (k % 3) b->scale = scales[k / 3];
    if (k % 3 == 2) memset(b->sign_seed, 0, sizeof b->sign_seed);
  }
  const Codec codec(C::kName, o);
  std::vector<float> y(n), sum(n, 0.5f);
  codec.decode(payload.data(), n, y.data(), false, 1);
  codec.decode(payload.data(), n, sum.data(), true, 1);
  FpEnv ieee;
  const std::vector<float> expected = as_the_header_decodes<C>(payload, n, o);
  for (std::size_t i = 0; i < n; ++i) {
    ASSERT_EQ(std::isnan(y[i]), std::isnan(expected[i])) << C::kName << " at " << i;
    if (std::isnan(y[i])) continue;
    ASSERT_EQ(float_bits(y[i]), float_bits(expected[i])) << C::kName << " at " << i;
    ASSERT_EQ(float_bits(sum[i]), float_bits(expected[i] + 0.5f)) << C::kName << " at " << i;
  }
}

TEST(Kernels, RotatedBlocksOfAnyBytesDecodeAsTheHeadersSay) {
#define SCRIMP_EXPECT(...) \
  if constexpr (__VA_ARGS__::kChoices & kRotationChoice) expect_any_bytes_decode<__VA_ARGS__>();
  SCRIMP_BLOCK_CODECS(SCRIMP_EXPECT)
#undef SCRIMP_EXPECT
}

template <class C>
void expect_cast_bytes(std::size_t n) {
  std::vector<float> x = sample(n, "non-finite");
  for (std::size_t i = 0; i < n; ++i) {
    std::uint32_t bits = static_cast<std::uint32_t>(mix64(i));
    if (i % 3 == 0) bits = (bits & 0x80003fffu) | (0x37000000u + (bits & 0x0fffc000u));  // near the ends of small floats
    if (i % 5) x[i] = bits_float(bits);
  }
  const Codec codec(C::kName, {});
  std::vector<std::uint8_t> payload(codec.nbytes(n)), expected(codec.nbytes(n));
  codec.encode(view_of(x), payload.data(), {.nonfinite = Nonfinite::kPropagate, .threads = 1});
  FpEnv ieee;
  std::vector<float> y(n), decoded(n);
  for (std::size_t i = 0; i < n; ++i) {
    const typename C::Stored stored = C::encode(x[i], {});
    memcpy(expected.data() + i * sizeof stored, &stored, sizeof stored);
    decoded[i] = C::decode(stored, {});
  }
  ASSERT_EQ(payload, expected) << C::kName;
  codec.decode(payload.data(), n, y.data(), false, 1);
  ASSERT_TRUE(same_bits(y, decoded)) << C::kName;
}

// Codes that no encoder writes, too: payloads of NaN, signalling ones.
template <class C>
void expect_every_code() {
  using Stored = typename C::Stored;
  const std::size_t n = (std::size_t{1} << (8 * sizeof(Stored))) + 7;
  for (std::size_t step : {1, 129}) {  // neighbours in one group of 32, or far from each other
    std::vector<Stored> codes(n);
    for (std::size_t i = 0; i < n; ++i) codes[i] = static_cast<Stored>(i * step);
    std::vector<float> y(n), sum(n, 1.0f), decoded(n);
    const Codec codec(C::kName, {});
    codec.decode(reinterpret_cast<const std::uint8_t*>(codes.data()), n, y.data(), false, 1);
    codec.decode(reinterpret_cast<const std::uint8_t*>(codes.data()), n, sum.data(), true, 1);
    FpEnv ieee;
    for (std::size_t i = 0; i < n; ++i) decoded[i] = C::decode(codes[i], {});
    ASSERT_TRUE(same_bits(y, decoded)) << C::kName;
    for (std::size_t i = 0; i < n; ++i)
      ASSERT_EQ(std::isnan(sum[i]) ? -1.0f : sum[i], std::isnan(decoded[i]) ? -1.0f : 1.0f + decoded[i]) << C::kName;
  }
}

TEST(Kernels, EveryCodeOfACastDecodesAsTheHeaderSays) {
  expect_every_code<F16>();
  expect_every_code<BF16>();
  expect_every_code<E4M3>();
  expect_every_code<E5M2>();
}

template <class C>
void expect_any_bytes_to_decode() {
  const std::size_t n = 256 * C::kBlock;
  std::mt19937 generator(11);
  const Codec codec(C::kName, {});
  std::vector<std::uint8_t> payload(codec.nbytes(n));
  for (std::uint8_t& byte : payload) byte = static_cast<std::uint8_t>(generator());
  for (std::size_t b = 0; b < 256; ++b) payload[b * sizeof(typename C::Block)] = static_cast<std::uint8_t>(b);  // scales
  std::vector<float> y(n);
  codec.decode(payload.data(), n, y.data(), false, 1);
  FpEnv ieee;
  const std::vector<float> expected = as_the_header_decodes<C>(payload, n, {});
  for (std::size_t i = 0; i < n; ++i)  // the sign of a NaN is the compiler's
    ASSERT_EQ(std::isnan(y[i]) ? 0 : float_bits(y[i]), std::isnan(expected[i]) ? 0 : float_bits(expected[i])) << C::kName << i;
}

TEST(Kernels, AnyBytesOfMicroscaledBlocksDecodeAsTheHeadersSay) {
  expect_any_bytes_to_decode<MXFP4>();
  expect_any_bytes_to_decode<MXFP8>();
}

template <class C>
void expect_feedback_of_cast(Feedback feedback) {
  const std::size_t n = 2077;
  const std::vector<float> x = samples(n)[1].x;
  std::vector<float> state = samples(n)[0].x, expected_state(n);
  std::vector<std::uint8_t> expected(n * sizeof(typename C::Stored)), payload(expected.size());
  {
    FpEnv ieee;
    for (std::size_t i = 0; i < n; ++i) {
      const float sent = feedback == Feedback::kEf14 ? x[i] + state[i] : x[i] - state[i];
      const typename C::Stored stored = C::encode(sent, {});
      memcpy(expected.data() + i * sizeof stored, &stored, sizeof stored);
      const float received = C::decode(stored, {});
      expected_state[i] = feedback == Feedback::kEf14 ? sent - received : state[i] + received;
    }
  }
  const Codec::EncodeArgs args{.nonfinite = Nonfinite::kPropagate, .threads = 1, .feedback = feedback, .state = state.data()};
  ASSERT_EQ(Codec(C::kName, {}).encode(view_of(x), payload.data(), args), kAllEncoded);
  ASSERT_EQ(payload, expected) << C::kName;
  for (std::size_t i = 0; i < n; ++i)
    ASSERT_EQ(std::isnan(state[i]) ? 0 : state[i], std::isnan(expected_state[i]) ? 0 : expected_state[i]) << C::kName;
}

TEST(Kernels, CastsKeepWhatTheyLose) {
  for (Feedback feedback : {Feedback::kEf14, Feedback::kEf21}) {
#define SCRIMP_EXPECT(C) expect_feedback_of_cast<C>(feedback);
    SCRIMP_CAST_CODECS(SCRIMP_EXPECT)
#undef SCRIMP_EXPECT
  }
}

TEST(Kernels, CastsAreTheBytesThatTheHeadersDefine) {
  for (std::size_t n : {1, 31, 32, 1000, 100003}) {
#define SCRIMP_EXPECT(C) expect_cast_bytes<C>(n);
    SCRIMP_CAST_CODECS(SCRIMP_EXPECT)
#undef SCRIMP_EXPECT
  }
}

// What one pass does, step by step: decode, add, multiply, add the state, encode. In the pass, the codes may lie where the sum's go.
void expect_sums_encode_as_in_steps(const CodecKernels& row, const Sample& sample, Feedback feedback, bool plus_first) {
  CodecOptions o;
  o.variant = row.variant;
  o.step = 0.25f;
  const Codec codec(row.name, o);
  const std::size_t n = sample.x.size();
  const std::vector<float> other = samples(n)[0].x;
  std::vector<float> state = samples(n)[2].x, total(n);
  std::vector<std::uint8_t> codes(codec.nbytes(n)), expected(codes.size());
  codec.kernels().encode({other.data(), n, codes.data(), &o, 5, 0, Nonfinite::kPropagate});
  codec.decode(codes.data(), n, total.data(), false, 1);
  for (std::size_t i = 0; i < n; ++i) total[i] = (plus_first ? total[i] + sample.x[i] : sample.x[i] + total[i]) * 0.5f;
  std::vector<float> expected_state = state;
  EncodeRun steps{total.data(), n, expected.data(), &o, 7, 64, Nonfinite::kPropagate, feedback, expected_state.data()};
  const std::size_t stop = codec.kernels().encode(steps);
  for (const bool keep_past : {false, true}) {
    std::vector<std::uint8_t> payload = codes;
    std::vector<float> new_state = state, kept(n + 16);
    const auto past_line = reinterpret_cast<std::uintptr_t>(kept.data()) % 64 / sizeof(float);
    float* const room = kept.data() + (16 - past_line) % 16;
    std::uint32_t top = 0, largest = 0;
    EncodeRun run{sample.x.data(), n, payload.data(), &o, 7, 64, Nonfinite::kPropagate, feedback, new_state.data()};
    run.plus = payload.data();
    run.plus_first = plus_first;
    run.factor = 0.5f;
    run.top = &top;
    if (feedback != Feedback::kNone) run.kept = room, run.keep_past = keep_past;
    ASSERT_EQ(codec.kernels().encode(run), stop);
    EXPECT_TRUE(!run.kept || memcmp(room, state.data(), n * sizeof(float)) == 0) << row.name << row.variant << sample.name;
    if (stop != kAllEncoded) continue;  // a fixed step has its limits
    ASSERT_EQ(payload, expected) << row.name << row.variant << sample.name;
    for (std::size_t i = 0; i < n; ++i) {
      const float sent = feedback == Feedback::kNone ? total[i] : feedback == Feedback::kEf14 ? total[i] + state[i] : total[i] - state[i];
      largest = std::max(largest, magnitude_bits(sent));
      ASSERT_EQ(std::isnan(new_state[i]) ? 0 : new_state[i], std::isnan(expected_state[i]) ? 0 : expected_state[i]) << row.name;
    }
    EXPECT_EQ(top, largest) << row.name << row.variant << sample.name;
  }
}

TEST(Kernels, SumsEncodeInOnePassAsInSteps) {
  const KernelTable& table = active_table();
  for (std::size_t k = 0; k < table.n_codecs; ++k) {
    const CodecKernels& row = table.codecs[k];
    for (const Sample& sample : samples(row.block <= 256 ? 36 * row.block + 7 : 3 * row.block + 7))
      for (Feedback feedback : {Feedback::kNone, Feedback::kEf14, Feedback::kEf21})
        for (bool plus_first : {false, true}) expect_sums_encode_as_in_steps(row, sample, feedback, plus_first);
  }
}

// Arrays of 16 MB and more leave by another way, from and to addresses that are no multiple of a cache line.
TEST(Kernels, LargeArraysAreTheBytesOfTheirParts) {
  const std::size_t n = (17 << 20) / 4 + 77, part = 1 << 15;
  const std::vector<float> x = samples(n)[0].x;
  for (const char* name : {"int8", "int4", "sign", "f16", "bf16", "e4m3"}) {
    const Codec codec(name, {});
    const Codec::EncodeArgs args{.threads = 1};
    for (std::size_t shift : {1, 32}) {
      std::vector<std::uint8_t> whole(codec.nbytes(n) + 128, 0xaa), parts(codec.nbytes(n));
      codec.encode(view_of(x), whole.data() + shift, args);
      for (std::size_t i = 0; i < n; i += part) {
        FloatView view = view_of(x);
        view.data += i * sizeof(float);
        view.shape[0] = std::min(part, n - i);
        codec.encode(view, parts.data() + codec.nbytes(i), args);
      }
      ASSERT_EQ(memcmp(whole.data() + shift, parts.data(), parts.size()), 0) << name << " at " << shift;
      for (std::size_t i = 0; i < shift; ++i) ASSERT_EQ(whole[i], 0xaa);
      for (std::size_t i = shift + parts.size(); i < whole.size(); ++i) ASSERT_EQ(whole[i], 0xaa);
      std::vector<float> y(n + 32, -7.0f), z(n);
      codec.decode(parts.data(), n, y.data() + shift / 2, false, 1);
      for (std::size_t i = 0; i < n; i += part)
        codec.decode(parts.data() + codec.nbytes(i), std::min(part, n - i), z.data() + i, false, 1);
      ASSERT_EQ(memcmp(y.data() + shift / 2, z.data(), n * sizeof(float)), 0) << name << " at " << shift;
      ASSERT_EQ(y[n + shift / 2], -7.0f);
    }
  }
}

}  // namespace
}  // namespace scrimp
