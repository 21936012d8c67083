#pragma once
// What a codec may be told besides its values. Shared by CPU and CUDA; the text form is parsed in python/scrimp/codecs.
#include <cstdint>

namespace scrimp {

enum class Rounding : std::uint8_t { kNearest, kStochastic };

// What encode does with NaN and ±Inf: stop at the first one, replace them by finite values, or make them decode as NaN.
enum class Nonfinite : std::uint8_t { kRaise, kSaturate, kPropagate };

struct CodecOptions {
  Rounding rounding = Rounding::kNearest;
  float step = 0;  // lattice codecs: distance of two neighbouring values
};

}  // namespace scrimp
