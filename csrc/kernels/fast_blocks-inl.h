#pragma once
// Faster ways to do what the codecs' headers define: encode a group of full blocks, whose scales are found together, and
// decode one full block. A codec without an entry here runs as its header says; tests/cpp/test_kernels.cpp holds every
// entry to the header, byte for byte.
#include "codecs/list.h"
#include "kernels/leaf-inl.h"
#include "kernels/stream-inl.h"
#if defined(__AVX512F__)
#include "kernels/rotation_avx512-inl.h"
#elif defined(__AVX2__)
#include "kernels/rotation_avx2-inl.h"
#endif

namespace scrimp {
namespace {

// What a group of kGroup full blocks is encoded from.
struct GroupValues {
  const float* x;
  const std::uint32_t* top;  // [kGroup] bits of the largest magnitudes
  const CodecOptions& options;
  std::uint64_t key, index;
  bool fetch;  // what lies ahead of x
};

// Fetches what lies ahead of block k, beyond the group, which is read whole for its maxima first. Zen 4, int8: 1 MB 4 KB
// ahead 52 GB/s, 8 KB 59, 16 KB 56. What comes from memory is left to the hardware: of 256 MB, this and 64 KB ahead into the
// second level reach 0.85 to 0.9 of the speed without, the second level alone 0.77 to 0.91.
template <std::uint32_t kBlock>
SCRIMP_FETCHES void prefetch_group(const GroupValues& v, std::uint32_t k) {
  constexpr std::uint32_t kGroupValues = kGroup * kBlock, kNear = kGroupValues > 2048 ? kGroupValues : 2048;
  if (v.fetch) prefetch_ahead<kBlock>(v.x + k * kBlock, kNear);
}

// encode writes kGroup blocks, or returns false: then the header's way is taken. decode reads one full block.
template <class C>
struct FastBlocks {
  static constexpr bool kEncodes = false, kDecodes = false;
};

// The codec that the loops run in the name of C: the same bytes.
template <class C>
struct LoopedAs {
  using Type = C;
};
template <class C>
using Looped = typename LoopedAs<C>::Type;

#if defined(__AVX2__)
#define SCRIMP_ROTATED(kBits)                            \
  template <std::uint32_t kBlock>                        \
  struct LoopedAs<Rot##kBits<kBlock>> {                  \
    using Type = rotated::Fast<Rot##kBits<kBlock>, kBits>; \
  };
SCRIMP_ROTATED(1)
SCRIMP_ROTATED(2)
SCRIMP_ROTATED(3)
SCRIMP_ROTATED(4)
#undef SCRIMP_ROTATED
#endif

// The rule of search_scale with all 16 candidates at once.
template <std::uint32_t kBlock>
inline float searched_scale(const float* x, float widest, std::int32_t levels) {
  const float shrink = levels <= 3 ? 3.0f / 64 : 1.0f / 32;
  alignas(64) float scale[16], error[16];
  for (std::uint32_t c = 0; c < 16; ++c) scale[c] = widest * (1.0f - shrink * static_cast<float>(c));
  leaf::squared_errors16<kBlock>(x, scale, 1.0f / widest, levels, error);
  std::uint32_t best = 0;
  for (std::uint32_t c = 1; c < 16; ++c) best = error[c] < error[best] ? c : best;
  return scale[best];
}

// How values i…i + 31 of a block become codes.
struct Nearest {
  float inverse;
  void operator()(const float* x, std::uint32_t i, std::int8_t* codes) const { leaf::codes32(x + i, inverse, codes); }
};

struct Clamped {
  float inverse, top;
  void operator()(const float* x, std::uint32_t i, std::int8_t* codes) const { leaf::codes32_clamped(x + i, inverse, top, codes); }
};

template <bool kClamp>
struct Stochastic {
  float inverse, top;
  const leaf::Draws& draws;
  const std::uint32_t* product;
  void operator()(const float* x, std::uint32_t i, std::int8_t* codes) const {
    leaf::codes32_stochastic<kClamp>(x + i, inverse, top, draws, product[i / 32], codes);
  }
};

template <class C>
struct FastUniform {
  static constexpr bool kEncodes = true;

  template <bool kStochastic>
  static inline bool encode(const GroupValues& v, typename C::Block* b) {
    constexpr float kUnit = kStochastic ? 65536.0f : 1.0f;
    alignas(64) float scale[kGroup], inverse[kGroup];
    if (!leaf::scale_blocks(v.top, C::kLevels, kUnit, kTinyAbsmax, kLargestAbsmax, scale, inverse)) return false;
    const bool search = v.options.scale == ScaleRule::kMse;
    for (std::uint32_t k = 0; search && k < kGroup; ++k) {
      if (!(scale[k] > 0)) continue;
      scale[k] = searched_scale<C::kBlock>(v.x + k * C::kBlock, scale[k], C::kLevels);
      inverse[k] = 1.0f / scale[k] * kUnit;
    }
    if constexpr (kStochastic) return search ? write_stochastic<true>(v, scale, inverse, b) : write_stochastic<false>(v, scale, inverse, b);
    if (search)
      write_group(v, scale, b, [&](std::uint32_t k) { return Clamped{inverse[k], C::kLevels}; });
    else
      write_group(v, scale, b, [&](std::uint32_t k) { return Nearest{inverse[k]}; });
    return true;
  }

  template <class Rule>
  static inline void write_group(const GroupValues& v, const float* scale, typename C::Block* b, Rule rule) {
    for (std::uint32_t k = 0; k < kGroup; ++k) {
      prefetch_group<C::kBlock>(v, k);
      b[k].scale = scale[k];
      FastBlocks<C>::write(v.x + k * C::kBlock, rule(k), b[k].code);
    }
  }

  // At the scale of the largest value nothing has to be clamped: tests/cpp/test_kernels.cpp shows it.
  template <bool kClamp>
  static inline bool write_stochastic(const GroupValues& v, const float* scale, const float* inverse, typename C::Block* b) {
    constexpr std::uint32_t kDraws = kGroup * C::kBlock / 32;
    const std::uint64_t counter = v.index >> 1, page = counter >> 32;
    if (v.index % 32 || (counter ^ (counter + 16 * kDraws - 1)) >> 16) return false;
    const std::uint64_t key = __builtin_expect(page != 0, 0) ? mix64(v.key ^ page) : v.key;
    alignas(64) std::uint32_t product[kDraws];
    for (std::uint32_t i = 0; i < kDraws; ++i)
      product[i] = (random32_start(key, static_cast<std::uint32_t>(counter) + 16 * i) & ~15u) * kFirstFactor;
    const leaf::Draws draws(key, random32_start(key, static_cast<std::uint32_t>(counter)));
    write_group(v, scale, b, [&](std::uint32_t k) {
      return Stochastic<kClamp>{inverse[k], C::kLevels * 65536.0f, draws, product + k * (C::kBlock / 32)};
    });
    return true;
  }
};

template <std::uint32_t kBlock>
struct FastBlocks<Int8<kBlock>> : FastUniform<Int8<kBlock>> {
  static constexpr bool kDecodes = true;

  static inline void decode(const typename Int8<kBlock>::Block& b, const CodecOptions&, float* y) {
    const float scale = b.scale;
    for (std::uint32_t i = 0; i < kBlock; i += 32)
      leaf::scaled_codes32(reinterpret_cast<const std::int8_t*>(b.code + i), scale, y + i);
  }

  template <class Codes32>
  static inline void write(const float* x, const Codes32& codes32, std::uint8_t* code) {
    for (std::uint32_t i = 0; i < kBlock; i += 32) codes32(x, i, reinterpret_cast<std::int8_t*>(code + i));
  }
};

struct IntegerLevels {
  static constexpr NibbleTable kTable{[](std::uint32_t k) { return static_cast<float>(k) - 8; }};
};

template <std::uint32_t kBlock>
struct FastBlocks<Int4<kBlock>> : FastUniform<Int4<kBlock>> {
  static constexpr bool kDecodes = true;

  template <class Codes32>
  static inline void write(const float* x, const Codes32& codes32, std::uint8_t* code) {
    constexpr std::uint32_t kHalf = kBlock / 2;
    if constexpr (kHalf == 16) {
      std::int8_t codes[32];
      std::uint8_t stored[32];
      codes32(x, 0, codes);
      for (int i = 0; i < 32; ++i) stored[i] = static_cast<std::uint8_t>(codes[i] + 8);
      leaf::join_halves32(stored, code);
      return;
    }
    for (std::uint32_t i = 0; i + 32 <= kHalf; i += 32) {
      std::int8_t low[32], high[32];
      codes32(x, i, low);
      codes32(x, i + kHalf, high);
      leaf::join_nibbles32(low, high, code + i);
    }
  }

  static inline void decode(const typename Int4<kBlock>::Block& b, const CodecOptions&, float* y) {
    leaf::scaled_nibbles<IntegerLevels, kBlock / 2>(b.code, b.scale, y);
  }
};

template <std::uint32_t kBlock>
struct FastBlocks<Sign<kBlock>> {
  static constexpr bool kEncodes = true, kDecodes = true;

  template <bool>
  static inline bool encode(const GroupValues& v, typename Sign<kBlock>::Block* b) {
    bool small = true;
    for (std::uint32_t k = 0; k < kGroup; ++k) small &= v.top[k] <= float_bits(0x1p100f);
    if (!small) return false;
    alignas(64) float sum[kGroup];
    leaf::abs_sum_of_blocks<kBlock>(v.x, sum);
    for (std::uint32_t k = 0; k < kGroup; ++k) {
      prefetch_group<kBlock>(v, k);
      b[k].scale = sum[k] / static_cast<float>(kBlock);
      for (std::uint32_t i = 0; i < kBlock; i += 32) leaf::negative_bits32(v.x + k * kBlock + i, b[k].bits + i / 8);
    }
    return true;
  }

  static inline void decode(const typename Sign<kBlock>::Block& b, const CodecOptions&, float* y) {
    for (std::uint32_t i = 0; i < kBlock; i += 32) leaf::signed32(b.bits + i / 8, b.scale, y + i);
  }
};

struct NF4Limits {
  alignas(64) float value[16];
  constexpr NF4Limits() : value{} {
    for (std::uint32_t k = 0; k < 15; ++k) value[k] = (nf4_level(k) + nf4_level(k + 1)) * 0.5f;
  }
};

struct NF4Levels {
  static constexpr NibbleTable kTable{[](std::uint32_t k) { return nf4_level(k); }};
  static constexpr NF4Limits kLimits{};
};

template <std::uint32_t kBlock>
struct FastBlocks<NF4<kBlock>> {
  static constexpr bool kEncodes = true, kDecodes = true;

  template <bool>
  static inline bool encode(const GroupValues& v, typename NF4<kBlock>::Block* b) {
    alignas(64) float absmax[kGroup], inverse[kGroup];
    if (!leaf::scale_blocks(v.top, 1.0f, 1.0f, NF4<kBlock>::kSmallest, kMaxFloat, absmax, inverse)) return false;
    for (std::uint32_t k = 0; k < kGroup; ++k) {
      prefetch_group<kBlock>(v, k);
      b[k].absmax = absmax[k];
      for (std::uint32_t i = 0; i < kBlock; i += 32) {
        std::uint8_t codes[32];
        leaf::levels32<NF4Levels>(v.x + k * kBlock + i, inverse[k], codes);
        leaf::join_neighbours32(codes, b[k].pair + i / 2);
      }
    }
    return true;
  }

  static inline void decode(const typename NF4<kBlock>::Block& b, const CodecOptions&, float* y) {
    leaf::scaled_neighbours<NF4Levels, kBlock / 2>(b.pair, b.absmax, y);
  }
};

template <class C>
struct FastMicroscale {
  static constexpr bool kEncodes = true;

  // Scale bytes of a group of blocks; false: a value cannot be stored.
  static inline bool exponents(const GroupValues& v, std::uint32_t* exponent) {
    std::uint32_t most = 0;
    for (std::uint32_t k = 0; k < kGroup; ++k) most = v.top[k] > most ? v.top[k] : most;
    if (most > C::kLargestBits) return false;
    for (std::uint32_t k = 0; k < kGroup; ++k)
      exponent[k] = C::Scaled::scale_exponent(bits_float(v.top[k]), v.options.scale);
    return true;
  }
};

struct FP4Levels {
  static constexpr float kElement[16] = {0.0f,  0.5f,  1.0f,  1.5f,  2.0f,  3.0f,  4.0f,  6.0f,
                                         -0.0f, -0.5f, -1.0f, -1.5f, -2.0f, -3.0f, -4.0f, -6.0f};
  static constexpr NibbleTable kTable{[](std::uint32_t k) { return kElement[k]; }};
};

template <>
struct FastBlocks<MXFP4> : FastMicroscale<MXFP4> {
  static constexpr bool kDecodes = true;

  template <bool>
  static inline bool encode(const GroupValues& v, MXFP4::Block* b) {
    std::uint32_t exponent[kGroup];
    if (!exponents(v, exponent)) return false;
    for (std::uint32_t k = 0; k < kGroup; ++k) {
      prefetch_group<32>(v, k);
      std::uint8_t codes[32];
      const float inverse = inverse_exponent_scale(exponent[k]);
      leaf::minifloats32<Minifloat<2, 1>, 3>(v.x + 32 * k, inverse, MXFP4::Scaled::kLargest, codes);
      b[k].exponent = static_cast<std::uint8_t>(exponent[k]);
      leaf::join_halves32(codes, b[k].code);
    }
    return true;
  }

  static inline void decode(const MXFP4::Block& b, const CodecOptions&, float* y) {
    leaf::scaled_nibbles<FP4Levels, 16>(b.code, exponent_scale(b.exponent), y);
  }
};

template <>
struct FastBlocks<MXFP8> : FastMicroscale<MXFP8> {
  static constexpr bool kDecodes = leaf::kCasts;

  template <bool>
  static inline bool encode(const GroupValues& v, MXFP8::Block* b) {
    std::uint32_t exponent[kGroup];
    if (!exponents(v, exponent)) return false;
    for (std::uint32_t k = 0; k < kGroup; ++k) {
      prefetch_group<32>(v, k);
      const float inverse = inverse_exponent_scale(exponent[k]);
      leaf::minifloats32<Minifloat<4, 3>, 7>(v.x + 32 * k, inverse, MXFP8::Scaled::kLargest, b[k].code);
      b[k].exponent = static_cast<std::uint8_t>(exponent[k]);
    }
    return true;
  }

  static inline void decode(const MXFP8::Block& b, const CodecOptions&, float* y) {
    leaf::scaled_e4m3_32(b.code, exponent_scale(b.exponent), y);
  }
};

template <>
struct FastBlocks<Q8_0> {
  static constexpr bool kEncodes = true, kDecodes = true;

  template <bool>
  static inline bool encode(const GroupValues& v, Q8_0::Block* b) {
    alignas(64) float scale[kGroup], inverse[kGroup];
    std::uint16_t halves[kGroup];
    if (!leaf::scale_blocks(v.top, 127.0f, 1.0f, 0x1p-113f, bits_float(Q8_0::kLargestBits), scale, inverse)) return false;
    leaf::to_halves16(scale, reinterpret_cast<std::uint8_t*>(halves));
    for (std::uint32_t k = 0; k < kGroup; ++k) {
      prefetch_group<32>(v, k);
      b[k].scale = halves[k];
      leaf::codes32_away(v.x + 32 * k, inverse[k], reinterpret_cast<std::int8_t*>(b[k].code));
    }
    return true;
  }

  static inline void decode(const Q8_0::Block& b, const CodecOptions&, float* y) {
    leaf::scaled_codes32(reinterpret_cast<const std::int8_t*>(b.code), half_float(b.scale), y);
  }
};

template <>
struct FastBlocks<Q4_0> {
  static constexpr bool kEncodes = true, kDecodes = true;

  template <bool>
  static inline bool encode(const GroupValues& v, Q4_0::Block* b) {
    alignas(64) float scale[kGroup], inverse[kGroup];
    std::uint32_t most = 0;
    for (std::uint32_t k = 0; k < kGroup; ++k) {
      most = v.top[k] > most ? v.top[k] : most;
      scale[k] = v.x[32 * k + leaf::first_of_magnitude32(v.x + 32 * k, v.top[k])];
    }
    if (most > Q4_0::kLargestBits) return false;
    for (std::uint32_t k = 0; k < kGroup; ++k) {
      scale[k] = scale[k] / -8.0f;
      inverse[k] = 1.0f / (v.top[k] >= float_bits(0x1p-120f) ? scale[k] : bits_float(kInfBits));
    }
    std::uint16_t halves[kGroup];
    leaf::to_halves16(scale, reinterpret_cast<std::uint8_t*>(halves));
    for (std::uint32_t k = 0; k < kGroup; ++k) {
      prefetch_group<32>(v, k);
      b[k].scale = halves[k];
      leaf::pairs32_from_eight(v.x + 32 * k, inverse[k], b[k].code);
    }
    return true;
  }

  static inline void decode(const Q4_0::Block& b, const CodecOptions&, float* y) {
    leaf::scaled_nibbles<IntegerLevels, 16>(b.code, half_float(b.scale), y);
  }
};

// Casts of n values, a multiple of 32, and back.
template <class C>
struct FastCasts {
  static constexpr bool kEncodes = false, kDecodes = false;
};

template <>
struct FastCasts<F16> {
  static constexpr bool kEncodes = true, kDecodes = leaf::kCasts;
  static inline void encode(const float* x, std::size_t n, std::uint8_t* out) { leaf::to_halves(x, n, out); }
  static inline void decode(const std::uint8_t* in, std::size_t n, float* y) { leaf::from_halves(in, n, y); }
};

template <>
struct FastCasts<BF16> {
  static constexpr bool kEncodes = leaf::kCasts, kDecodes = false;
  static inline void encode(const float* x, std::size_t n, std::uint8_t* out) { leaf::to_bfloats(x, n, out); }
};

template <>
struct FastCasts<E4M3> {
  static constexpr bool kEncodes = true, kDecodes = leaf::kCasts;
  static inline void encode(const float* x, std::size_t n, std::uint8_t* out) {
    leaf::to_eights<E4M3::Format>(x, n, E4M3::kLargest, out);
  }
  static inline void decode(const std::uint8_t* in, std::size_t n, float* y) { leaf::from_e4m3(in, n, y); }
};

template <>
struct FastCasts<E5M2> {
  static constexpr bool kEncodes = true, kDecodes = leaf::kCasts;
  static inline void encode(const float* x, std::size_t n, std::uint8_t* out) {
    leaf::to_eights<E5M2::Format>(x, n, 61440.0f, out);
  }
  static inline void decode(const std::uint8_t* in, std::size_t n, float* y) { leaf::from_e5m2(in, n, y); }
};

}  // namespace
}  // namespace scrimp
