// Loops over blocks and over single values, stamped for each codec. Compiled once per ISA: no std template, unnamed namespace.
#include <cstring>

#include "codecs/block.h"
#include "codecs/list.h"
#include "kernels/table.h"

namespace scrimp {
namespace {

template <class C, bool kStochastic>
std::size_t encode_blocks_as(const EncodeRun& run) {
  auto* b = reinterpret_cast<typename C::Block*>(run.out);
  const std::size_t n_full = run.n / C::kBlock;
  for (std::size_t k = 0; k < n_full; ++k) {
    const std::size_t i = k * C::kBlock;
    if (!encode_block<C, kStochastic>(run.x + i, C::kBlock, *run.options, run.nonfinite, run.key, run.index + i, b[k]))
      return i + first_nonfinite(run.x + i, C::kBlock);
  }
  const std::size_t i = n_full * C::kBlock;
  const std::uint32_t rest = static_cast<std::uint32_t>(run.n - i);
  if (!rest) return kAllEncoded;
  typename C::Block last;
  if (!encode_block<C, kStochastic>(run.x + i, rest, *run.options, run.nonfinite, run.key, run.index + i, last))
    return i + first_nonfinite(run.x + i, rest);
  memcpy(b + n_full, &last, C::nbytes(rest));
  return kAllEncoded;
}

template <class C>
std::size_t encode_blocks(const EncodeRun& run) {
  return run.options->rounding == Rounding::kStochastic ? encode_blocks_as<C, true>(run) : encode_blocks_as<C, false>(run);
}

template <class C>
inline void decode_block(const typename C::Block& b, std::uint32_t n, bool add, float* y) {
  if (!add) return C::decode(b, n, y);
  float decoded[C::kBlock];
  C::decode(b, n, decoded);
  for (std::uint32_t i = 0; i < n; ++i) y[i] += decoded[i];
}

template <class C>
void decode_blocks(const DecodeRun& run) {
  auto* b = reinterpret_cast<const typename C::Block*>(run.in);
  const std::size_t n_full = run.n / C::kBlock;
  for (std::size_t k = 0; k < n_full; ++k) decode_block<C>(b[k], C::kBlock, run.add, run.out + k * C::kBlock);
  const std::uint32_t rest = static_cast<std::uint32_t>(run.n - n_full * C::kBlock);
  if (!rest) return;
  typename C::Block last;
  memcpy(&last, b + n_full, C::nbytes(rest));
  decode_block<C>(last, rest, run.add, run.out + n_full * C::kBlock);
}

template <class T>
struct __attribute__((packed)) Unaligned {
  T value;
};

template <class C>
std::size_t encode_casts(const EncodeRun& run) {
  auto* out = reinterpret_cast<Unaligned<typename C::Stored>*>(run.out);
  if (run.nonfinite == Nonfinite::kRaise) {
    std::uint32_t top = 0;
    for (std::size_t i = 0; i < run.n; ++i) {
      const std::uint32_t bits = float_bits(run.x[i]) & 0x7fffffffu;
      top = bits > top ? bits : top;
    }
    if (top >= kInfBits) {
      std::size_t i = 0;
      while ((float_bits(run.x[i]) & 0x7fffffffu) < kInfBits) ++i;
      return i;
    }
  }
  for (std::size_t i = 0; i < run.n; ++i) out[i].value = C::encode(run.x[i], *run.options);
  return kAllEncoded;
}

template <class C>
std::size_t encode_steps(const EncodeRun& run) {
  auto* out = reinterpret_cast<Unaligned<typename C::Stored>*>(run.out);
  const CodecOptions options = *run.options;
  bool all = true;
  for (std::size_t i = 0; i < run.n; ++i) all &= C::encodable(run.x[i], options);
  if (!all) {
    std::size_t i = 0;
    while (C::encodable(run.x[i], options)) ++i;
    return i;
  }
  for (std::size_t i = 0; i < run.n; ++i) out[i].value = C::encode(run.x[i], options);
  return kAllEncoded;
}

template <class C>
void decode_casts(const DecodeRun& run) {
  auto* in = reinterpret_cast<const Unaligned<typename C::Stored>*>(run.in);
  const CodecOptions options = *run.options;
  if (run.add) {
    for (std::size_t i = 0; i < run.n; ++i) run.out[i] += C::decode(in[i].value, options);
  } else {
    for (std::size_t i = 0; i < run.n; ++i) run.out[i] = C::decode(in[i].value, options);
  }
}

template <class C>
std::uint32_t block_cut_nbytes(std::uint32_t n) {
  return C::nbytes(n);
}

template <class C>
double bound_of(float absmax, const CodecOptions& options) {
  return C::bound(absmax, options);
}

std::uint32_t no_cut(std::uint32_t) { return 0; }

#define SCRIMP_BLOCK_ROW(C) \
  {C::kName, C::kBlock, sizeof(C::Block), false, C::kContractive, &block_cut_nbytes<C>, &encode_blocks<C>, &decode_blocks<C>, &bound_of<C>},
#define SCRIMP_CAST_ROW(C) \
  {C::kName, 1, sizeof(C::Stored), true, true, &no_cut, &encode_casts<C>, &decode_casts<C>, &bound_of<C>},
#define SCRIMP_STEP_ROW(C) \
  {C::kName, 1, sizeof(C::Stored), false, true, &no_cut, &encode_steps<C>, &decode_casts<C>, &bound_of<C>},
constexpr CodecKernels kCodecs[] = {SCRIMP_BLOCK_CODECS(SCRIMP_BLOCK_ROW) SCRIMP_CAST_CODECS(SCRIMP_CAST_ROW)
                                        SCRIMP_STEP_CODECS(SCRIMP_STEP_ROW)};
#undef SCRIMP_BLOCK_ROW
#undef SCRIMP_CAST_ROW
#undef SCRIMP_STEP_ROW

}  // namespace
}  // namespace scrimp
