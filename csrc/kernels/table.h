#pragma once
// What one ISA offers: plain function pointers, chosen once per process. Included by the files compiled per ISA, so no
// std template may appear here.
#include <cstddef>
#include <cstdint>

#include "codecs/options.h"
#include "kernels/linear_table.h"
#include "kernels/matmul_table.h"
#include "kernels/sums_table.h"

namespace scrimp {

constexpr std::size_t kAllEncoded = ~static_cast<std::size_t>(0);

// Error feedback that encode applies in the same pass. `state` is the residual (EF14) or the running estimate (EF21).
enum class Feedback : std::uint8_t { kNone, kEf14, kEf21 };

struct EncodeRun {
  const float* x;       // [n] first value on a block boundary
  std::size_t n;
  std::uint8_t* out;
  const CodecOptions* options;
  std::uint64_t key;    // rng_key(seed, step)
  std::uint64_t index;  // absolute index of x[0]
  Nonfinite nonfinite;
  Feedback feedback = Feedback::kNone;
  float* state = nullptr;  // [n], read and written, with feedback
  bool stream = false;     // write past the caches: the output is larger than they are
  // The following not with Nonfinite::kRaise. Where there are codes `plus` of this codec, factor·(x + what they decode to), or
  // factor·(that + x) with plus_first, takes the place of x; they may lie at `out`.
  const std::uint8_t* plus = nullptr;
  bool plus_first = false;
  float factor = 1;
  float* kept = nullptr;         // [n] takes the state as it was, past the caches with keep_past
  bool keep_past = false;
  std::uint32_t* top = nullptr;  // rises to the bits of the largest magnitude that is encoded
};

struct DecodeRun {
  const std::uint8_t* in;
  std::size_t n;
  float* out;  // [n]
  bool add;    // out += decoded
  const CodecOptions* options;
  bool stream = false;  // as above; without effect with `add`
};

// One codec in one variant. Rows of one name are neighbours; the first is the default.
struct CodecKernels {
  const char* name;
  const char* variant_key;  // "block" or "bits"; nullptr where there is one variant
  std::uint32_t variant;
  std::uint32_t block;      // values that share a scale; 1 where there is none
  std::uint32_t choices;    // bits of Choice
  bool passes_nonfinite;    // stores NaN and ±Inf as such: nothing to refuse
  std::uint32_t tame_bits;  // of the largest magnitude up to which whatever is encoded is known to decode to finite values
  std::uint32_t (*nbytes)(std::uint32_t n, const CodecOptions&);  // bytes of a block of n ≤ block values
  bool (*contractive)(const CodecOptions&);      // ‖x - decoded‖² ≤ (1 - α)‖x‖² for some α > 0: error feedback converges
  std::size_t (*encode)(const EncodeRun&);       // kAllEncoded, or the index of the first value it cannot encode
  void (*decode)(const DecodeRun&);
  double (*bound)(float absmax, const CodecOptions&);  // of |x - decoded| for any |x| ≤ absmax; inf where there is none
};

struct KernelTable {
  const char* isa;
  const CodecKernels* codecs;
  std::size_t n_codecs;
  const LinearKernels* linear;
  const MatmulKernels* matmul;
  const SumKernels* sums;
};

const KernelTable& active_table();  // best supported, or $SCRIMP_ISA; throws std::invalid_argument on an unknown name

}  // namespace scrimp
