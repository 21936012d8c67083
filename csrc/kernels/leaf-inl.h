#pragma once
// Leaves: fixed small groups of values, the innermost work of the fast block loops. `plain` is the definition, written so
// that compilers vectorise it; leaf_avx2-inl.h and leaf_avx512-inl.h hold the same functions in intrinsics. The loops call
// `leaf::`, the best that the ISA of this translation unit has. tests/cpp/test_kernels.cpp holds all of them to the codecs'
// headers.
#include <cmath>
#include <cstdint>
#include <cstring>

#include "codecs/bf16.h"
#include "codecs/e4m3.h"
#include "codecs/e5m2.h"
#include "codecs/float_bits.h"
#include "codecs/minifloat.h"
#include "codecs/uniform.h"
#include "core/hd.h"
#include "core/rng.h"

namespace scrimp {
namespace {

constexpr std::uint32_t kGroup = 16;  // blocks that are worked on together: one a lane of the widest vector

// What the 16 codes of four bits stand for, also by the bytes of the floats.
struct NibbleTable {
  alignas(64) float value[16];
  alignas(16) std::uint8_t plane[4][16];  // plane[b][k]: byte b of value[k], from the lowest up
  bool short_floats;                      // the lower two bytes are zero

  template <class Level>
  constexpr explicit NibbleTable(Level level) : value{}, plane{}, short_floats(true) {
    for (std::uint32_t k = 0; k < 16; ++k) {
      value[k] = level(k);
      const auto bits = __builtin_bit_cast(std::uint32_t, value[k]);
      for (std::uint32_t b = 0; b < 4; ++b) plane[b][k] = static_cast<std::uint8_t>(bits >> (8 * b));
      short_floats &= bits % 65536 == 0;
    }
  }
};

// Nearest integer, half to even. One instruction on x86, where rintf and a cast would be two.
SCRIMP_HD std::int32_t round_even(float x) {
#if defined(__x86_64__) && !defined(__clang__)
  return __builtin_irintf(x);
#else
  return static_cast<std::int32_t>(rintf(x));
#endif
}

namespace plain {

// codes[i] = round(x[i]·inverse) for 32 values; the products lie in -128…127.
SCRIMP_HD void codes32(const float* x, float inverse, std::int8_t* codes) {
  for (int i = 0; i < 32; ++i) codes[i] = static_cast<std::int8_t>(round_even(x[i] * inverse));
}

// codes[i] = round(clamp(x[i]·inverse, ±top)) for 32 values.
SCRIMP_HD void codes32_clamped(const float* x, float inverse, float top, std::int8_t* codes) {
  for (int i = 0; i < 32; ++i) {
    float scaled = x[i] * inverse;
    scaled = scaled > top ? top : scaled;
    codes[i] = static_cast<std::int8_t>(round_even(scaled < -top ? -top : scaled));
  }
}

// codes[i] = round(x[i]·inverse), half away from zero, for 32 values. The added number is the largest below one half.
SCRIMP_HD void codes32_away(const float* x, float inverse, std::int8_t* codes) {
  for (int i = 0; i < 32; ++i) {
    const float scaled = x[i] * inverse;
    const float half = bits_float((float_bits(scaled) & 0x80000000u) | 0x3effffffu);
    codes[i] = static_cast<std::int8_t>(static_cast<std::int32_t>(scaled + half));
  }
}

// Index of the first of 32 values whose magnitude has these bits; one has.
SCRIMP_HD std::uint32_t first_of_magnitude32(const float* x, std::uint32_t bits) {
  std::uint32_t first = 31;
  for (std::uint32_t i = 0; i < 32; ++i) {
    const std::uint32_t place = magnitude_bits(x[i]) == bits ? i : 31;
    first = place < first ? place : first;
  }
  return first;
}

// pair[i] = code of x[i] | code of x[i + 16] << 4 with codes min(15, ⌊x·inverse + 8.5⌋), for 32 values whose products lie in
// -8…8.
SCRIMP_HD void pairs32_from_eight(const float* x, float inverse, std::uint8_t* pair) {
  for (int i = 0; i < 16; ++i) {
    const std::int32_t low = static_cast<std::int32_t>(x[i] * inverse + 8.5f);
    const std::int32_t high = static_cast<std::int32_t>(x[i + 16] * inverse + 8.5f);
    pair[i] = static_cast<std::uint8_t>((low > 15 ? 15 : low) | ((high > 15 ? 15 : high) << 4));
  }
}

// codes[i] = how many of the ascending Levels::kLimits lie below x[i]·inverse, for 32 values whose products lie in -1…1.
template <class Levels>
SCRIMP_HD void levels32(const float* x, float inverse, std::uint8_t* codes) {
  std::int32_t level[32] = {};
  float scaled[32];
  for (int i = 0; i < 32; ++i) scaled[i] = x[i] * inverse;
  for (int k = 0; k < 15; ++k)
    for (int i = 0; i < 32; ++i) level[i] += scaled[i] > Levels::kLimits.value[k];
  for (int i = 0; i < 32; ++i) codes[i] = static_cast<std::uint8_t>(level[i]);
}

// codes[i] = x[i]·inverse as a small float: sign at bit kSignBit, half to even, clamped to `largest`, for 32 values.
template <class Format, std::uint32_t kSignBit>
SCRIMP_HD void minifloats32(const float* x, float inverse, float largest, std::uint8_t* codes) {
  for (int i = 0; i < 32; ++i) {
    const std::uint32_t bits = float_bits(x[i] * inverse), magnitude = bits & 0x7fffffffu, top = float_bits(largest);
    const std::uint32_t code = Format::encode(bits_float(magnitude < top ? magnitude : top));
    codes[i] = static_cast<std::uint8_t>(((bits >> 31) << kSignBit) | code);
  }
}

// codes[i] = x[i] as an 8-bit float, magnitudes clamped to `largest`, NaN ±0x7f, for n values, a multiple of 32.
template <class Format>
SCRIMP_HD void to_eights(const float* x, std::size_t n, float largest, std::uint8_t* codes) {
  for (std::size_t i = 0; i < n; ++i) {
    const std::uint32_t bits = float_bits(x[i]), magnitude = bits & 0x7fffffffu, top = float_bits(largest);
    const std::uint32_t code = Format::encode(bits_float(magnitude < top ? magnitude : top));
    codes[i] = static_cast<std::uint8_t>(((bits >> 24) & 0x80u) | (magnitude > kInfBits ? 0x7fu : code));
  }
}

// pair[i] = codes[2i] << 4 | codes[2i + 1] for 32 codes in 0…15.
SCRIMP_HD void join_neighbours32(const std::uint8_t* codes, std::uint8_t* pair) {
  for (int i = 0; i < 16; ++i) pair[i] = static_cast<std::uint8_t>((codes[2 * i] << 4) | codes[2 * i + 1]);
}

// pair[i] = codes[i] | codes[i + 16] << 4 for 32 codes in 0…15.
SCRIMP_HD void join_halves32(const std::uint8_t* codes, std::uint8_t* pair) {
  for (int i = 0; i < 16; ++i) pair[i] = static_cast<std::uint8_t>(codes[i] | (codes[i + 16] << 4));
}

// Bytes 2i and 2i + 1 of halves = x[i] as fp16, for 16 values, or for n, a multiple of 32.
SCRIMP_HD void to_halves16(const float* x, std::uint8_t* halves) {
  std::uint16_t half[16];
  for (int i = 0; i < 16; ++i) half[i] = float_half(x[i]);
  memcpy(halves, half, sizeof half);
}

SCRIMP_HD void to_halves(const float* x, std::size_t n, std::uint8_t* halves) {
  for (std::size_t i = 0; i < n; i += 16) to_halves16(x + i, halves + 2 * i);
}

// Whether the leaves that follow, casts of n values, a multiple of 32, are better than a compiler's loops over the codecs.
constexpr bool kCasts = false;

// Bytes 2i and 2i + 1 of bfloats = x[i] as bf16.
SCRIMP_HD void to_bfloats(const float* x, std::size_t n, std::uint8_t* bfloats) {
  for (std::size_t i = 0; i < n; ++i) {
    const std::uint16_t bfloat = BF16::encode(x[i], {});
    memcpy(bfloats + 2 * i, &bfloat, sizeof bfloat);
  }
}

// y[i] = bytes 2i and 2i + 1 of halves as fp16.
SCRIMP_HD void from_halves(const std::uint8_t* halves, std::size_t n, float* y) {
  for (std::size_t i = 0; i < n; ++i) {
    std::uint16_t half;
    memcpy(&half, halves + 2 * i, sizeof half);
    y[i] = half_float(half);
  }
}

// y[i] = codes[i] as an 8-bit float.
SCRIMP_HD void from_e4m3(const std::uint8_t* codes, std::size_t n, float* y) {
  for (std::size_t i = 0; i < n; ++i) y[i] = E4M3::decode(codes[i], {});
}

SCRIMP_HD void from_e5m2(const std::uint8_t* codes, std::size_t n, float* y) {
  for (std::size_t i = 0; i < n; ++i) y[i] = E5M2::decode(codes[i], {});
}

// y[i] = scale times codes[i] as an element of mxfp8, for 32 values.
SCRIMP_HD void scaled_e4m3_32(const std::uint8_t* codes, float scale, float* y) {
  for (int i = 0; i < 32; ++i) y[i] = scale * ((codes[i] & 0x7f) == 0x7f ? bits_float(kNanBits) : E4M3::decode(codes[i], {}));
}

// random32 of the counters of a group, whose upper 16 bits are the same: of 16 from an aligned one on, the first product is
// that of the upper 28 bits of random32_start (`product`), which one scalar serves, plus that of the lower four, of which
// `lane` has the 16.
struct Draws {
  std::uint32_t lane[16], upper_key;

  Draws(std::uint64_t key, std::uint32_t start) : upper_key(static_cast<std::uint32_t>(key >> 32)) {
    for (std::uint32_t i = 0; i < 16; ++i) lane[i] = ((start & 15) ^ i) * kFirstFactor;
  }
  std::uint32_t operator()(std::uint32_t product, std::uint32_t i) const { return random32_end(upper_key, product + lane[i]); }
};

// codes[i] = (round(clamp(x[i]·inverse, ±top)) + r) >> 16 for 32 values, where r is half of a draw, its lower one for the
// first 16. Without kClamp the rounded products lie within ±top.
template <bool kClamp>
SCRIMP_HD void codes32_stochastic(const float* x, float inverse, float top, const Draws& draws, std::uint32_t product,
                                  std::int8_t* codes) {
  std::int32_t fixed[32];
  for (int i = 0; i < 32; ++i) {
    float scaled = x[i] * inverse;
    if constexpr (kClamp) {
      scaled = scaled > top ? top : scaled;
      scaled = scaled < -top ? -top : scaled;
    }
    fixed[i] = round_even(scaled);
  }
  for (std::uint32_t i = 0; i < 16; ++i) {
    const std::uint32_t bits = draws(product, i);
    codes[i] = static_cast<std::int8_t>((fixed[i] + static_cast<std::int32_t>(bits & 0xffffu)) >> 16);
    codes[i + 16] = static_cast<std::int8_t>((fixed[i + 16] + static_cast<std::int32_t>(bits >> 16)) >> 16);
  }
}

// pair[i] = (low[i] + 8) | (high[i] + 8) << 4 for 32 pairs of codes in -8…7.
SCRIMP_HD void join_nibbles32(const std::int8_t* low, const std::int8_t* high, std::uint8_t* pair) {
  for (int i = 0; i < 32; ++i) pair[i] = static_cast<std::uint8_t>(((low[i] & 15) | ((high[i] & 15) << 4)) ^ 0x88);
}

// top[b] = bits of max |x| of block b, for kGroup blocks of kBlock values.
template <std::uint32_t kBlock>
SCRIMP_HD void absmax_of_blocks(const float* x, std::uint32_t* top) {
  for (std::uint32_t b = 0; b < kGroup; ++b) top[b] = absmax_bits(x + b * kBlock, kBlock);
}

// sum[b] = lane_sum of |x| of block b, for kGroup blocks of kBlock values.
template <std::uint32_t kBlock>
SCRIMP_HD void abs_sum_of_blocks(const float* x, float* sum) {
  for (std::uint32_t b = 0; b < kGroup; ++b)
    sum[b] = lane_sum(kBlock, [&](std::uint32_t i) { return fabsf(x[b * kBlock + i]); });
}

// scale[b] = absmax/levels and inverse[b] = unit/scale[b] (0 for a block of zeros) of kGroup blocks; false if one of them
// is neither zero nor within [least, most].
SCRIMP_HD bool scale_blocks(const std::uint32_t* top, float levels, float unit, float least, float most, float* scale,
                            float* inverse) {
  std::uint32_t others = 0;
  for (std::uint32_t b = 0; b < kGroup; ++b) {
    const float absmax = bits_float(top[b]);
    scale[b] = absmax / levels;
    inverse[b] = 1.0f / (top[b] ? scale[b] : bits_float(kInfBits)) * unit;
    others += top[b] != 0 && !(absmax >= least && absmax <= most);
  }
  return others == 0;
}

// Bit i mod 8 of bits[i / 8] = x[i] < 0, for 32 values.
SCRIMP_HD void negative_bits32(const float* x, std::uint8_t* bits) {
  for (int k = 0; k < 4; ++k) {
    std::uint32_t byte = 0;
    for (int i = 0; i < 8; ++i) byte |= (x[8 * k + i] < 0 ? 1u : 0u) << i;
    bits[k] = static_cast<std::uint8_t>(byte);
  }
}

// y[i] = bit i ? -scale : scale, for 32 values.
SCRIMP_HD void signed32(const std::uint8_t* bits, float scale, float* y) {
  std::uint32_t word;
  memcpy(&word, bits, sizeof word);
  for (std::uint32_t i = 0; i < 32; ++i) y[i] = bits_float(float_bits(scale) ^ ((word >> i) << 31));
}

// y[i] = entry pair[i] & 15 of Levels::kTable, times scale; y[i + kPairs] = entry pair[i] >> 4.
template <class Levels, std::uint32_t kPairs>
SCRIMP_HD void scaled_nibbles(const std::uint8_t* pair, float scale, float* y) {
  alignas(64) float value[16];
  for (int k = 0; k < 16; ++k) value[k] = Levels::kTable.value[k] * scale;
  for (std::uint32_t i = 0; i < kPairs; ++i) y[i] = value[pair[i] & 15];
  for (std::uint32_t i = 0; i < kPairs; ++i) y[i + kPairs] = value[pair[i] >> 4];
}

// y[2i] = entry pair[i] >> 4 of Levels::kTable, times scale; y[2i + 1] = entry pair[i] & 15.
template <class Levels, std::uint32_t kPairs>
SCRIMP_HD void scaled_neighbours(const std::uint8_t* pair, float scale, float* y) {
  alignas(64) float value[16];
  for (int k = 0; k < 16; ++k) value[k] = Levels::kTable.value[k] * scale;
  for (std::uint32_t i = 0; i < kPairs; ++i) {
    y[2 * i] = value[pair[i] >> 4];
    y[2 * i + 1] = value[pair[i] & 15];
  }
}

// y[i] = codes[i]·scale for 32 values.
SCRIMP_HD void scaled_codes32(const std::int8_t* codes, float scale, float* y) {
  for (int i = 0; i < 32; ++i) y[i] = static_cast<float>(codes[i]) * scale;
}

// y[i] += x[i] for 32 values.
SCRIMP_HD void add32(const float* x, float* y) {
  for (int i = 0; i < 32; ++i) y[i] += x[i];
}

// error[c] = squared_error of a block of kBlock values at scale[c], for 16 scales.
template <std::uint32_t kBlock>
SCRIMP_HD void squared_errors16(const float* x, const float* scale, float unit, std::int32_t levels, float* error) {
  for (std::uint32_t c = 0; c < 16; ++c) error[c] = squared_error(x, kBlock, scale[c], unit, levels);
}

// Copies whole lines of 64 bytes to an aligned address.
SCRIMP_HD void stream_lines(const std::uint8_t* from, std::size_t n_lines, std::uint8_t* to) { memcpy(to, from, 64 * n_lines); }
SCRIMP_HD void stream_end() {}

}  // namespace plain
}  // namespace
}  // namespace scrimp

#if defined(__AVX512BW__)
#include "kernels/leaf_avx512-inl.h"
namespace scrimp {
namespace {
namespace leaf = avx512;
}
}  // namespace scrimp
#elif defined(__AVX2__)
#include "kernels/leaf_avx2_floats-inl.h"
namespace scrimp {
namespace {
namespace leaf = avx2;
}
}  // namespace scrimp
#elif defined(__x86_64__)
#include "kernels/leaf_x86-inl.h"
namespace scrimp {
namespace {
namespace leaf = x86;
}
}  // namespace scrimp
#else
namespace scrimp {
namespace {
namespace leaf = plain;
}
}  // namespace scrimp
#endif
