#pragma once
// step:k=K: the lattice round(x/K)·K with codes of fixed width (8 bits, or 16), half to even. A code beyond its width is an
// error, not a clamp: codes of one K add as integers (docs/formats.md).
#include "codecs/float_bits.h"
#include "codecs/options.h"

namespace scrimp {
namespace {

template <class Code, std::uint32_t kBits>
struct StepOf {
  static constexpr const char* kName = "step";
  static constexpr std::uint32_t kWidth = kBits;
  using Stored = Code;
  static constexpr float kMaxCode = static_cast<float>((1 << (kBits - 1)) - 1);
  static SCRIMP_HD float multiple(float x, const CodecOptions& o) { return rintf(x / o.step); }
  static SCRIMP_HD bool encodable(float x, const CodecOptions& o) { return fabsf(multiple(x, o)) <= kMaxCode; }
  static SCRIMP_HD Stored encode(float x, const CodecOptions& o) {
    return static_cast<Stored>(static_cast<std::int32_t>(multiple(x, o)));
  }
  static SCRIMP_HD float decode(Stored s, const CodecOptions& o) { return static_cast<float>(s) * o.step; }
  static SCRIMP_HD double bound(float absmax, const CodecOptions& o) {
    return encodable(absmax, o) ? 0.5 * o.step + absmax * 0x1p-22 + 0x1p-149 : static_cast<double>(bits_float(kInfBits));
  }
};

using Step8 = StepOf<std::int8_t, 8>;
using Step16 = StepOf<std::int16_t, 16>;

}  // namespace
}  // namespace scrimp
