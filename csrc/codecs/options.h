#pragma once
// What a codec may be told besides its values. Shared by CPU and CUDA; the text form is parsed in python/scrimp/codecs.
#include <cstdint>

namespace scrimp {

enum class Rounding : std::uint8_t { kNearest, kStochastic };

// How a block chooses its scale. kDefault is the first rule that the codec lists.
enum class ScaleRule : std::uint8_t { kDefault, kAbsmax, kMse, kUnbiased, kFloor, kRceil, kEven };

// What encode does with NaN and ±Inf: stop at the first one, replace them by finite values, or make them decode as NaN.
enum class Nonfinite : std::uint8_t { kRaise, kSaturate, kPropagate };

struct CodecOptions {
  Rounding rounding = Rounding::kNearest;
  ScaleRule scale = ScaleRule::kDefault;
  float step = 0;             // lattice codecs: distance of two neighbouring values
  float ratio = 0.01f;        // sparse codecs: share of the values that is kept
  std::uint32_t variant = 0;  // block size or width, where a codec offers several; 0: its first
};

// Bits of what a codec lets the user choose.
enum Choice : std::uint32_t {
  kNoChoice = 0,
  kRoundingChoice = 1,     // rounding=nearest|stochastic
  kScaleChoice = 2,        // scale=absmax|mse
  kRotationChoice = 4,     // scale=mse|unbiased
  kMicroscaleChoice = 8,   // scale=floor|rceil|even
  kStepChoice = 16,        // k=…
  kRatioChoice = 32,       // ratio=…
};

// The values of one block and what rounding may depend on.
struct BlockValues {
  const float* x;
  std::uint32_t n;      // 1…block
  float absmax;         // of x; finite
  const CodecOptions& options;
  std::uint64_t key;    // rng_key(seed, step)
  std::uint64_t index;  // absolute index of x[0]
};

}  // namespace scrimp
