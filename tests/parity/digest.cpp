// Prints a digest of the bytes that each codec makes of the same values: equal lines on every ISA, or a number has moved.
// No test framework, so that it cross-compiles.
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <vector>

#include "digest.h"
#include "kernels/codec.h"

// Sums of four uniforms by integer arithmetic: bell-shaped, and the same on every machine.
std::vector<float> values(std::size_t n) {
  std::vector<float> x(n);
  for (std::size_t i = 0; i < n; ++i) {
    std::int64_t sum = 0;
    for (std::uint64_t k = 0; k < 4; ++k) sum += static_cast<std::int64_t>(scrimp::mix64(4 * i + k) >> 40);
    x[i] = static_cast<float>(sum - (1 << 25)) * 0x1p-23f;
    if (i / 300 % 9 == 4) x[i] *= 1e-42f;
    if (i / 300 % 9 == 5) x[i] = 0;
    if (i / 300 % 9 == 6) x[i] = -2.5f;
    if (i / 300 % 9 == 7) x[i] *= i % 17 ? 1e-3f : 1e6f;
  }
  return x;
}

namespace {

void print_digest(const scrimp::CodecKernels& row, scrimp::Rounding rounding, scrimp::ScaleRule scale) {
  scrimp::CodecOptions options;
  options.rounding = rounding;
  options.scale = scale;
  options.step = 64.0f;
  options.variant = row.variant;
  const scrimp::Codec codec(row.name, options);
  Digest bytes, decoded;
  for (std::size_t n : {1, 2, 31, 127, 128, 129, 1023, 1025, 70001}) {
    const std::vector<float> x = values(n);
    scrimp::FloatView view;
    view.data = reinterpret_cast<const std::byte*>(x.data());
    view.shape[0] = n;
    view.strides[0] = sizeof(float);
    std::vector<std::uint8_t> payload(codec.nbytes(n));
    const std::size_t bad = codec.encode(view, payload.data(), {7, 3, 4096, scrimp::Nonfinite::kPropagate, 1});
    bytes.add(&bad, sizeof bad);
    if (bad != scrimp::kAllEncoded) continue;
    std::vector<float> y(n, 0.5f);
    bytes.add(payload.data(), payload.size());
    codec.decode(payload.data(), n, y.data(), false, 1);
    codec.decode(payload.data(), n, y.data(), true, 1);
    decoded.add(y.data(), n * sizeof(float));
  }
  std::printf("%s %u rounding %d scale %d %016llx %016llx\n", row.name, row.variant, static_cast<int>(rounding),
              static_cast<int>(scale), bytes.value(), decoded.value());
}

}  // namespace

int main() {
  const scrimp::KernelTable& table = scrimp::active_table();
  std::fprintf(stderr, "%s\n", table.isa);
  for (std::size_t i = 0; i < table.n_codecs; ++i)
    for (auto rounding : {scrimp::Rounding::kNearest, scrimp::Rounding::kStochastic})
      for (auto scale : {scrimp::ScaleRule::kDefault, scrimp::ScaleRule::kMse, scrimp::ScaleRule::kUnbiased,
                         scrimp::ScaleRule::kRceil, scrimp::ScaleRule::kEven})
        print_digest(table.codecs[i], rounding, scale);
  print_linear_digests();
}
