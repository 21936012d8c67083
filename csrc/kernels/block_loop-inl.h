// Loops over blocks and over single values, stamped for each codec. Compiled once per ISA: no std template, unnamed namespace.
#include <cstring>

#include "codecs/block.h"
#include "codecs/list.h"
#include "kernels/fast_blocks-inl.h"
#include "kernels/stream-inl.h"
#include "kernels/table.h"

namespace scrimp {
namespace {

template <class C>
inline __attribute__((always_inline)) void decode_full(const typename C::Block& b, const CodecOptions& options, float* y) {
  if constexpr (FastBlocks<C>::kDecodes)
    FastBlocks<C>::decode(b, options, y);
  else
    C::decode(b, C::kBlock, options, y);
}

// sum = factor·(x + sum), or factor·(sum + x).
inline void add_values(const float* x, std::uint32_t n, bool sum_first, float factor, float* sum) {
  if (sum_first) {
    for (std::uint32_t j = 0; j < n; ++j) sum[j] = (sum[j] + x[j]) * factor;
  } else {
    for (std::uint32_t j = 0; j < n; ++j) sum[j] = (x[j] + sum[j]) * factor;
  }
}

// What feedback has to send: x + state (EF14) or x - state (EF21). `sent` is x or apart from it; arrays of one address are named
// once, as in sums-inl.h.
inline void add_state(const float* x, std::uint32_t n, const float* state, Feedback feedback, float* sent) {
  if (x == sent && feedback == Feedback::kEf14) {
    for (std::uint32_t j = 0; j < n; ++j) sent[j] += state[j];
  } else if (x == sent) {
    for (std::uint32_t j = 0; j < n; ++j) sent[j] -= state[j];
  } else if (feedback == Feedback::kEf14) {
    for (std::uint32_t j = 0; j < n; ++j) sent[j] = x[j] + state[j];
  } else {
    for (std::uint32_t j = 0; j < n; ++j) sent[j] = x[j] - state[j];
  }
}

// The state of n values as it is now goes to where it is kept.
inline void keep_state(std::size_t i, std::size_t n, const EncodeRun& run) {
  if (!run.kept) return;
  const bool on_line = reinterpret_cast<std::uintptr_t>(run.kept + i) % 64 == 0;
  const std::size_t n_lines = run.keep_past && on_line ? n / 16 : 0;
  leaf::stream_lines(reinterpret_cast<const std::uint8_t*>(run.state + i), n_lines, reinterpret_cast<std::uint8_t*>(run.kept + i));
  memcpy(run.kept + i + 16 * n_lines, run.state + i + 16 * n_lines, (n - 16 * n_lines) * sizeof(float));
}

// Values i…i+n as they are encoded: x, or in `sent`, where the decoded `plus` is if there is one.
inline const float* add_all(std::size_t i, std::uint32_t n, const EncodeRun& run, float* sent) {
  const float* x = run.x + i;
  if (run.plus) {
    add_values(x, n, run.plus_first, run.factor, sent);
    x = sent;
  }
  if (run.feedback != Feedback::kNone) {
    keep_state(i, n, run);
    add_state(x, n, run.state + i, run.feedback, sent);
    x = sent;
  }
  return x;
}

inline void see_top(std::uint32_t top, const EncodeRun& run) { *run.top = top > *run.top ? top : *run.top; }

// The state takes what was lost (EF14), or what was sent is added to it (EF21).
inline void update_state(const float* sent, const float* received, std::uint32_t n, Feedback feedback, float* state) {
  if (feedback == Feedback::kEf14) {
    for (std::uint32_t j = 0; j < n; ++j) state[j] = sent[j] - received[j];
  } else {
    for (std::uint32_t j = 0; j < n; ++j) state[j] += received[j];
  }
}

// The state of the values of one block after what was lost is known.
template <class C>
inline __attribute__((always_inline)) void take_back(const float* sent, const typename C::Block& b, const EncodeRun& run,
                                                     std::size_t i) {
  alignas(64) float received[C::kBlock];
  decode_full<C>(b, *run.options, received);
  update_state(sent, received, C::kBlock, run.feedback, run.state + i);
}

template <class C>
inline void decode_cut(const std::uint8_t* in, std::uint32_t n, const CodecOptions& options, float* y) {
  typename C::Block last;
  memset(&last, 0, sizeof last);
  memcpy(&last, in, C::nbytes(n, options));
  C::decode(last, n, options, y);
}

// Encodes values i…i+n, whose bytes begin at byte `at`. False: some cannot be stored, nothing has changed.
template <class C, bool kStochastic>
inline __attribute__((always_inline)) bool encode_at(std::size_t i, std::uint32_t n, std::size_t at, const EncodeRun& run,
                                                     typename C::Block& b) {
  alignas(64) float sent[C::kBlock], received[C::kBlock];
  if (run.plus && n == C::kBlock) decode_full<C>(*reinterpret_cast<const typename C::Block*>(run.plus + at), *run.options, sent);
  else if (run.plus) decode_cut<C>(run.plus + at, n, *run.options, sent);
  const float* x = add_all(i, n, run, sent);
  if (run.top) see_top(absmax_bits(x, n), run);
  if (!encode_block<C, kStochastic>(x, n, *run.options, run.nonfinite, run.key, run.index + i, b)) return false;
  if (run.feedback != Feedback::kNone) {
    C::decode(b, n, *run.options, received);
    update_state(x, received, n, run.feedback, run.state + i);
  }
  return true;
}

// The cut block at the end. Its own function: the length is no constant here. Cold, or its vectorised loops would be
// most of the module.
template <class C, bool kStochastic>
__attribute__((noinline, cold)) bool encode_rest(std::size_t i, std::uint32_t n, std::size_t at, const EncodeRun& run) {
  if (n < 1 || n >= C::kBlock) __builtin_unreachable();
  typename C::Block last;
  if (!encode_at<C, kStochastic>(i, n, at, run, last)) return false;
  memcpy(run.out + at, &last, C::nbytes(n, *run.options));
  return true;
}

// Index of the first value that stopped the block, in x or in what feedback made of it.
template <class C>
__attribute__((noinline, cold)) std::size_t first_refused_in(std::size_t i, std::uint32_t n, const EncodeRun& run) {
  float sent[C::kBlock];
  return i + first_above(add_all(i, n, run, sent), n, C::kLargestBits);
}

template <class C, bool kStochastic>
inline bool encode_full(std::size_t i, std::size_t at, const EncodeRun& run, std::uint8_t* out) {
  return encode_at<C, kStochastic>(i, C::kBlock, at, run, *reinterpret_cast<typename C::Block*>(out));
}

// Encodes kGroup full blocks from value i on, whose bytes begin at byte `at` and are written to `out`. False: some value cannot
// be stored; blocks before it may have been written.
template <class C, bool kStochastic>
inline __attribute__((always_inline)) bool encode_group(std::size_t i, std::size_t at, const EncodeRun& run, std::uint8_t* out) {
  constexpr std::uint32_t kValues = kGroup * C::kBlock;
  alignas(64) float sent[kValues];
  alignas(64) std::uint32_t top[kGroup];
  auto* b = reinterpret_cast<typename C::Block*>(out);
  const float* x = run.x + i;
  if (run.plus || run.feedback != Feedback::kNone) {
    for (std::uint32_t k = 0; k < kGroup; ++k) {
      if (run.plus) decode_full<C>(reinterpret_cast<const typename C::Block*>(run.plus + at)[k], *run.options, sent + k * C::kBlock);
      add_all(i + k * C::kBlock, C::kBlock, run, sent + k * C::kBlock);
    }
    x = sent;
  }
  leaf::absmax_of_blocks<C::kBlock>(x, top);
  const bool fetch = x != sent && !run.stream;
  if (__builtin_expect(FastBlocks<C>::template encode<kStochastic>({x, top, *run.options, run.key, run.index + i, fetch}, b), 1)) {
    for (std::uint32_t k = 0; run.top && k < kGroup; ++k) see_top(top[k], run);
    if (run.feedback != Feedback::kNone)
      for (std::uint32_t k = 0; k < kGroup; ++k) take_back<C>(sent + k * C::kBlock, b[k], run, i + k * C::kBlock);
    return true;
  }
  for (std::uint32_t k = 0; k < kGroup; ++k)
    if (!encode_full<C, kStochastic>(i + k * C::kBlock, at + k * sizeof *b, run, out + k * sizeof *b)) return false;
  return true;
}

// Index of the first refused value among the group that begins at i.
template <class C>
__attribute__((noinline, cold)) std::size_t first_refused_from(std::size_t i, const EncodeRun& run) {
  for (;; i += C::kBlock) {
    const std::size_t found = first_refused_in<C>(i, C::kBlock, run);
    if (found < i + C::kBlock) return found;
  }
}

template <class C, bool kStochastic>
std::size_t encode_blocks_as(const EncodeRun& run) {
  const std::uint32_t stride = C::nbytes(C::kBlock, *run.options);
  std::size_t i = 0, at = 0;
  if constexpr (FastBlocks<C>::kEncodes) {
    constexpr std::size_t kValues = kGroup * C::kBlock, kBytes = kGroup * sizeof(typename C::Block);
    LineWriter<kBytes> lines(run.out, run.stream);
    for (; i + kValues <= run.n; i += kValues, at += kBytes) {
      if (!encode_group<C, kStochastic>(i, at, run, lines.room(run.out + at))) return first_refused_from<C>(i, run);
      lines.written(kBytes);
    }
  }
  for (; i + C::kBlock <= run.n; i += C::kBlock, at += stride)
    if (!encode_full<C, kStochastic>(i, at, run, run.out + at)) return first_refused_in<C>(i, C::kBlock, run);
  const std::uint32_t rest = static_cast<std::uint32_t>(run.n - i);
  if (rest && !encode_rest<C, kStochastic>(i, rest, at, run)) return first_refused_in<C>(i, rest, run);
  if (run.keep_past) leaf::stream_end();
  return kAllEncoded;
}

template <class C>
std::size_t encode_blocks(const EncodeRun& run) {
  if constexpr (C::kChoices & kRoundingChoice)
    if (run.options->rounding == Rounding::kStochastic) return encode_blocks_as<C, true>(run);
  return encode_blocks_as<C, false>(run);
}

template <class C>
__attribute__((noinline, cold)) void decode_rest(const std::uint8_t* in, std::uint32_t n, const DecodeRun& run, float* y) {
  if (n < 1 || n >= C::kBlock) __builtin_unreachable();
  float decoded[C::kBlock];
  decode_cut<C>(in, n, *run.options, run.add ? decoded : y);
  if (run.add)
    for (std::uint32_t i = 0; i < n; ++i) y[i] += decoded[i];
}

template <class C>
inline __attribute__((always_inline)) void decode_and_add(const typename C::Block& b, const CodecOptions& options, float* y) {
  if constexpr (requires { C::decode_add(b, y); }) return C::decode_add(b, y);
  alignas(64) float decoded[C::kBlock];
  decode_full<C>(b, options, decoded);
  if constexpr (C::kBlock == 32) {
    leaf::add32(decoded, y);  // a loop this short would be unrolled, not vectorised
  } else {
    for (std::uint32_t i = 0; i < C::kBlock; ++i) y[i] += decoded[i];
  }
}

// Of a payload that streams in. AVX2 on Zen 3, int8 of 96 MB on one thread: 2 KB ahead 14.1 GB/s, 4 KB 15.9, 8 KB 15.2.
#if defined(__AVX512F__)
constexpr std::size_t kBytesAhead = 2048;
#else
constexpr std::size_t kBytesAhead = 4096;
#endif

template <class C>
void decode_blocks(const DecodeRun& run) {
  const std::uint32_t stride = C::nbytes(C::kBlock, *run.options);
  const std::uint8_t* in = run.in;
  const auto block = [&]() -> const typename C::Block& { return *reinterpret_cast<const typename C::Block*>(in); };
  std::size_t i = 0;
  if (run.add) {
    for (; i + C::kBlock <= run.n; i += C::kBlock, in += stride) decode_and_add<C>(block(), *run.options, run.out + i);
  } else if (run.stream) {
    LineWriter<4 * C::kBlock> lines(reinterpret_cast<std::uint8_t*>(run.out), true);
    for (; i + C::kBlock <= run.n; i += C::kBlock, in += stride) {
      prefetch_bytes(in + kBytesAhead, stride);
      decode_full<C>(block(), *run.options, reinterpret_cast<float*>(lines.room(reinterpret_cast<std::uint8_t*>(run.out + i))));
      lines.written(4 * C::kBlock);
    }
  } else {
    for (; i + C::kBlock <= run.n; i += C::kBlock, in += stride) decode_full<C>(block(), *run.options, run.out + i);
  }
  if (i < run.n) decode_rest<C>(in, static_cast<std::uint32_t>(run.n - i), run, run.out + i);
}

template <class T>
struct __attribute__((packed)) Unaligned {
  T value;
};

// Index of the first value whose measure, as the bits of a magnitude, is above the limit; or kAllEncoded.
template <class Measure>
inline std::size_t first_measured_above(const float* x, std::size_t n, std::uint32_t limit, Measure measure) {
  std::uint32_t top = 0;
  for (std::size_t i = 0; i < n; ++i) {
    const std::uint32_t bits = magnitude_bits(measure(x[i]));
    top = bits > top ? bits : top;
  }
  if (top <= limit) return kAllEncoded;
  std::size_t i = 0;
  while (magnitude_bits(measure(x[i])) <= limit) ++i;
  return i;
}

// Index of the first value that a cast cannot store, or kAllEncoded.
template <class C>
inline std::size_t first_refused(const float* x, std::size_t n, const EncodeRun& run) {
  if constexpr (requires { C::kMaxCode; }) {
    const CodecOptions options = *run.options;
    return first_measured_above(x, n, float_bits(C::kMaxCode), [&](float value) { return C::multiple(value, options); });
  } else {
    if (run.nonfinite != Nonfinite::kRaise) return kAllEncoded;
    return first_measured_above(x, n, kInfBits - 1, [](float value) { return value; });
  }
}

constexpr std::size_t kCastChunk = 1024;  // values of a cast at a time: they stay in the first-level cache

template <class C>
inline void cast_all(const float* x, std::size_t n, const CodecOptions& options, std::uint8_t* out) {
  auto* stored = reinterpret_cast<Unaligned<typename C::Stored>*>(out);
  std::size_t i = 0;
  if constexpr (FastCasts<C>::kEncodes) {
    i = n - n % 32;
    FastCasts<C>::encode(x, i, out);
  }
  for (; i < n; ++i) stored[i].value = C::encode(x[i], options);
}

template <class C>
inline void uncast_all(const std::uint8_t* in, std::size_t n, const CodecOptions& options, float* y) {
  auto* stored = reinterpret_cast<const Unaligned<typename C::Stored>*>(in);
  std::size_t i = 0;
  if constexpr (FastCasts<C>::kDecodes) {
    i = n - n % 32;
    FastCasts<C>::decode(in, i, y);
  }
  for (; i < n; ++i) y[i] = C::decode(stored[i].value, options);
}

template <class C>
inline void uncast_and_add(const std::uint8_t* in, std::size_t n, const CodecOptions& options, float* y) {
  if constexpr (FastCasts<C>::kDecodes) {
    alignas(64) float decoded[kCastChunk];
    uncast_all<C>(in, n, options, decoded);
    for (std::size_t i = 0; i < n; ++i) y[i] += decoded[i];
  } else {
    auto* stored = reinterpret_cast<const Unaligned<typename C::Stored>*>(in);
    for (std::size_t i = 0; i < n; ++i) y[i] += C::decode(stored[i].value, options);
  }
}

template <class C>
std::size_t encode_casts(const EncodeRun& run) {
  const CodecOptions options = *run.options;
  const bool feedback = run.feedback != Feedback::kNone;
  LineWriter<kCastChunk * sizeof(typename C::Stored)> lines(run.out, run.stream);
  alignas(64) float sent[kCastChunk], received[kCastChunk];
  for (std::size_t i = 0; i < run.n; i += kCastChunk) {
    const std::uint32_t n = static_cast<std::uint32_t>(run.n - i < kCastChunk ? run.n - i : kCastChunk);
    const float* x = run.x + i;
    if (run.stream) prefetch_ahead<kCastChunk>(x);
    if (run.plus) uncast_all<C>(run.plus + i * sizeof(typename C::Stored), n, options, sent);
    x = add_all(i, n, run, sent);
    if (run.top) see_top(absmax_bits(x, n), run);
    const std::size_t bad = first_refused<C>(x, n, run);
    if (bad != kAllEncoded) {
      keep_state(i, run.n - i, run);
      return i + bad;
    }
    std::uint8_t* out = lines.room(run.out + i * sizeof(typename C::Stored));
    cast_all<C>(x, n, options, out);
    if (feedback) {
      uncast_all<C>(out, n, options, received);
      update_state(sent, received, n, run.feedback, run.state + i);
    }
    lines.written(n * sizeof(typename C::Stored));
  }
  if (run.keep_past) leaf::stream_end();
  return kAllEncoded;
}

template <class C>
void decode_casts(const DecodeRun& run) {
  const CodecOptions options = *run.options;
  LineWriter<kCastChunk * sizeof(float)> lines(reinterpret_cast<std::uint8_t*>(run.out), run.stream && !run.add);
  for (std::size_t i = 0; i < run.n; i += kCastChunk) {
    const std::size_t n = run.n - i < kCastChunk ? run.n - i : kCastChunk;
    const std::uint8_t* in = run.in + i * sizeof(typename C::Stored);
    auto* y = reinterpret_cast<float*>(lines.room(reinterpret_cast<std::uint8_t*>(run.out + i)));
    if (run.add)
      uncast_and_add<C>(in, n, options, y);
    else
      uncast_all<C>(in, n, options, y);
    lines.written(n * sizeof(float));
  }
}

template <class C>
double bound_of(float absmax, const CodecOptions& options) {
  if constexpr (requires { C::kLargestBits; })
    if (magnitude_bits(absmax) > C::kLargestBits) return static_cast<double>(bits_float(kInfBits));
  return C::bound(absmax, options);
}

template <class C>
std::uint32_t block_nbytes(std::uint32_t n, const CodecOptions& options) {
  return C::nbytes(n, options);
}

template <class C>
bool block_contractive(const CodecOptions& options) {
  return C::contractive(options);
}

template <class C>
std::uint32_t cast_nbytes(std::uint32_t n, const CodecOptions&) {
  return n * static_cast<std::uint32_t>(sizeof(typename C::Stored));
}

// The error of a cast is at most half of the value, or it saturates towards it.
bool always_contractive(const CodecOptions&) { return true; }

// So far from the largest float that no rounding makes them infinite.
constexpr std::uint32_t kTameBits = 0x7e7fffff;

template <class C>
constexpr CodecKernels block_row() {
  return {C::kName, C::kVariantKey, C::kBlock, C::kBlock, C::kChoices, false, kTameBits < C::kLargestBits ? kTameBits : C::kLargestBits,
          &block_nbytes<C>, &block_contractive<C>, &encode_blocks<C>, &decode_blocks<C>, &bound_of<C>};
}

template <class C>
constexpr CodecKernels cast_row(const char* variant_key, std::uint32_t variant, std::uint32_t choices, bool passes_nonfinite) {
  return {C::kName, variant_key, variant, 1, choices, passes_nonfinite, passes_nonfinite ? 0 : kTameBits, &cast_nbytes<C>,
          &always_contractive, &encode_casts<C>, &decode_casts<C>, &bound_of<C>};
}

#define SCRIMP_CAST_ROW(C) cast_row<C>(nullptr, 0, kNoChoice, true),
#define SCRIMP_STEP_ROW(C) cast_row<C>("bits", C::kWidth, kStepChoice, false),
#define SCRIMP_BLOCK_ROW(C) block_row<Looped<C>>(),
constexpr CodecKernels kCodecs[] = {SCRIMP_CAST_CODECS(SCRIMP_CAST_ROW) SCRIMP_BLOCK_CODECS(SCRIMP_BLOCK_ROW)
                                        SCRIMP_STEP_CODECS(SCRIMP_STEP_ROW)};
#undef SCRIMP_CAST_ROW
#undef SCRIMP_STEP_ROW
#undef SCRIMP_BLOCK_ROW

}  // namespace
}  // namespace scrimp
