// libFuzzer target: any bytes, as the payload of any codec, decode without a fault. Byte 0 chooses the codec, bytes 1 and 2
// the number of values, the rest is the payload, cut or repeated to the size that the codec demands; it lies in memory of
// exactly that size. What was decoded is then encoded again, NaN and infinities included.
#include <cstdint>
#include <cstdlib>
#include <vector>

#include "kernels/codec.h"

namespace {

using namespace scrimp;

Codec choose(std::uint8_t choice) {
  const KernelTable& table = active_table();
  const CodecKernels& row = table.codecs[choice % table.n_codecs];
  CodecOptions options;
  options.variant = row.variant;
  options.step = 0.125f;
  options.ratio = choice & 1 ? 0.01f : 0.3f;
  options.rounding = choice & 2 ? Rounding::kStochastic : Rounding::kNearest;
  options.scale = choice & 4 ? ScaleRule::kMse : ScaleRule::kDefault;
  return {row.name, options};
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 4) return 0;
  const Codec codec = choose(data[0]);
  const std::size_t n = data[2] & 7 ? data[1] : (data[1] | (data[2] << 5)) % 2500;  // short ones are more a second
  std::vector<std::uint8_t> payload(codec.nbytes(n));
  for (std::size_t i = 0; i < payload.size(); ++i) payload[i] = data[3 + i % (size - 3)];
  std::vector<float> values(n), sums(n, 1.0f);
  codec.decode(payload.data(), n, values.data(), false, 1);
  codec.decode(payload.data(), n, sums.data(), true, 1);
  FloatView view;
  view.data = reinterpret_cast<const std::byte*>(values.data());
  view.shape[0] = n;
  view.strides[0] = sizeof(float);
  const auto policy = static_cast<Nonfinite>(data[0] % 3);
  Codec::EncodeArgs args{data[1], data[2], 0, policy, 1, Feedback::kNone, nullptr};
  if (data[0] & 8) args.feedback = Feedback::kEf14, args.state = sums.data();
  codec.encode(view, payload.data(), args);
  return 0;
}
