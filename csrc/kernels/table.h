#pragma once
// What one ISA offers: plain function pointers, chosen once per process. Included by the files compiled per ISA, so no
// std template may appear here.
#include <cstddef>
#include <cstdint>

#include "codecs/options.h"
#include "kernels/linear_table.h"

namespace scrimp {

constexpr std::size_t kAllEncoded = ~static_cast<std::size_t>(0);

struct EncodeRun {
  const float* x;       // [n] first value on a block boundary
  std::size_t n;
  std::uint8_t* out;
  const CodecOptions* options;
  std::uint64_t key;    // rng_key(seed, step)
  std::uint64_t index;  // absolute index of x[0]
  Nonfinite nonfinite;
};

struct DecodeRun {
  const std::uint8_t* in;
  std::size_t n;
  float* out;  // [n]
  bool add;    // out += decoded
  const CodecOptions* options;
};

struct CodecKernels {
  const char* name;
  std::uint32_t block;         // values that share a scale; 1 where there is none
  std::uint32_t block_nbytes;  // bytes of a full block
  bool passes_nonfinite;       // stores NaN and ±Inf as such: nothing to refuse
  bool contractive;            // ‖x - decoded‖² ≤ (1 - α)‖x‖² for some α > 0: error feedback converges
  std::uint32_t (*cut_nbytes)(std::uint32_t n);  // bytes of a block cut after n < block values
  std::size_t (*encode)(const EncodeRun&);       // kAllEncoded, or the index of the first value it cannot encode
  void (*decode)(const DecodeRun&);
  double (*bound)(float absmax, const CodecOptions&);  // of |x - decoded| for any |x| ≤ absmax; inf where there is none
};

struct KernelTable {
  const char* isa;
  const CodecKernels* codecs;
  std::size_t n_codecs;
  const LinearKernels* linear;
};

const KernelTable& active_table();  // best supported, or $SCRIMP_ISA; throws std::invalid_argument on an unknown name

}  // namespace scrimp
