// Every codec of the active kernel table: encode, decode and decode-add, in bytes of fp32 a second, from the first-level
// cache to memory.  SCRIMP_ISA=v3 build/bench/cpp/bench_codecs --benchmark_filter='int8.*/encode'
#include <benchmark/benchmark.h>

#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "kernels/codec.h"

namespace scrimp {
namespace {

std::vector<float> normal_values(std::size_t n) {
  std::mt19937 generator(1);
  std::normal_distribution<float> normal(0, 0.25f);
  std::vector<float> x(n);
  for (std::size_t i = 0; i < n; ++i) x[i] = i < (1 << 16) ? normal(generator) : x[i - (1 << 16)];
  return x;
}

FloatView view_of(const std::vector<float>& x) {
  FloatView view;
  view.data = reinterpret_cast<const std::byte*>(x.data());
  view.shape[0] = x.size();
  view.strides[0] = sizeof(float);
  return view;
}

void count_bytes(benchmark::State& state, std::size_t n) {
  state.SetBytesProcessed(static_cast<std::int64_t>(state.iterations() * n * sizeof(float)));
}

void encode(benchmark::State& state, const Codec& codec) {
  const std::vector<float> x = normal_values(static_cast<std::size_t>(state.range(0)) * 256);
  std::vector<std::uint8_t> payload(codec.nbytes(x.size()));
  for (auto _ : state) benchmark::DoNotOptimize(codec.encode(view_of(x), payload.data(), {.nonfinite = Nonfinite::kPropagate, .threads = 1}));
  count_bytes(state, x.size());
}

void decode(benchmark::State& state, const Codec& codec, bool add) {
  const std::vector<float> x = normal_values(static_cast<std::size_t>(state.range(0)) * 256);
  std::vector<std::uint8_t> payload(codec.nbytes(x.size()));
  std::vector<float> y(x.size());
  codec.encode(view_of(x), payload.data(), {.nonfinite = Nonfinite::kPropagate, .threads = 1});
  for (auto _ : state) {
    codec.decode(payload.data(), y.size(), y.data(), add, 1);
    benchmark::ClobberMemory();
  }
  count_bytes(state, x.size());
}

void register_codec(const CodecKernels& row, Rounding rounding) {
  CodecOptions options;
  options.rounding = rounding;
  options.step = 0.03f;
  options.variant = row.variant;
  const Codec codec(row.name, options);
  std::string name = std::string(row.name) + (row.variant_key ? std::string(":") + row.variant_key + "=" + std::to_string(row.variant) : "");
  if (rounding == Rounding::kStochastic) name += ",rounding=stochastic";
  const auto add = [&](const char* what, auto run) {
    benchmark::RegisterBenchmark((name + "/" + what).c_str(), run)->ArgName("KB")->Arg(32)->Arg(128)->Arg(1024)->Arg(65536);
  };
  add("encode", [codec](benchmark::State& state) { encode(state, codec); });
  if (rounding == Rounding::kStochastic) return;
  add("decode", [codec](benchmark::State& state) { decode(state, codec, false); });
  add("decode_add", [codec](benchmark::State& state) { decode(state, codec, true); });
}

const bool registered = [] {
  const KernelTable& table = active_table();
  for (std::size_t i = 0; i < table.n_codecs; ++i) {
    register_codec(table.codecs[i], Rounding::kNearest);
    if (table.codecs[i].choices & kRoundingChoice) register_codec(table.codecs[i], Rounding::kStochastic);
  }
  benchmark::AddCustomContext("isa", table.isa);
  return true;
}();

}  // namespace
}  // namespace scrimp
