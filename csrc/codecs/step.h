#pragma once
// step:k=K: the lattice round(x/K)·K with codes of fixed width, half to even. A code beyond its width is an error, not a
// clamp: codes of one K add as integers (docs/formats.md).
#include "codecs/options.h"
#include "codecs/uniform.h"

namespace scrimp {
namespace {

template <class Code, std::int32_t kLimit>
struct StepOf {
  using Stored = Code;
  static constexpr float kMaxCode = static_cast<float>(kLimit);
  static SCRIMP_HD bool encodable(float x, const CodecOptions& o) { return fabsf(rintf(x / o.step)) <= kMaxCode; }
  static SCRIMP_HD Stored encode(float x, const CodecOptions& o) {
    return static_cast<Stored>(static_cast<std::int32_t>(rintf(x / o.step)));
  }
  static SCRIMP_HD float decode(Stored s, const CodecOptions& o) { return static_cast<float>(s) * o.step; }
  static SCRIMP_HD double bound(float absmax, const CodecOptions& o) {
    return encodable(absmax, o) ? 0.5 * o.step + absmax * 0x1p-22 + 0x1p-149 : static_cast<double>(bits_float(kInfBits));
  }
};

struct Step8 : StepOf<std::int8_t, 127> {
  static constexpr const char* kName = "step8";
};
struct Step16 : StepOf<std::int16_t, 32767> {
  static constexpr const char* kName = "step16";
};

}  // namespace
}  // namespace scrimp
