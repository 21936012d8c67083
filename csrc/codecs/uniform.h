#pragma once
// Arithmetic that the block codecs share: largest magnitude, symmetric uniform rounding, sums in a fixed order.
// Unnamed namespace: every ISA keeps its own copy (CONTRIBUTING.md, "Files compiled per ISA").
#include <cmath>
#include <cstdint>
#include <cstring>

#include "core/hd.h"
#include "core/rng.h"

namespace scrimp {
namespace {

constexpr std::uint32_t kInfBits = 0x7f800000u;  // |x| as an integer is >= this for NaN and ±Inf
constexpr float kTinyAbsmax = 0x1p-100f;         // below it 127·2¹⁶/absmax would overflow: scaled in double

SCRIMP_HD std::uint32_t float_bits(float x) {
  std::uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  return bits;
}

SCRIMP_HD float bits_float(std::uint32_t bits) {
  float x;
  memcpy(&x, &bits, sizeof x);
  return x;
}

// Bits of max |x[i]|. As integers, magnitudes compare like floats and NaN is the largest of all.
SCRIMP_HD std::uint32_t absmax_bits(const float* x, std::uint32_t n) {
  std::uint32_t top = 0;
  for (std::uint32_t i = 0; i < n; ++i) {
    const std::uint32_t bits = float_bits(x[i]) & 0x7fffffffu;
    top = bits > top ? bits : top;
  }
  return top;
}

// Sum of |x[i]| in one order for every ISA: lane i mod 16 first, then the lanes pairwise.
SCRIMP_HD float abs_sum(const float* x, std::uint32_t n) {
  float lane[16] = {};
  std::uint32_t i = 0;
  for (; i + 16 <= n; i += 16)
    for (std::uint32_t j = 0; j < 16; ++j) lane[j] += fabsf(x[i + j]);
  for (std::uint32_t j = 0; i + j < n; ++j) lane[j] += fabsf(x[i + j]);
  for (std::uint32_t width = 8; width; width /= 2)
    for (std::uint32_t j = 0; j < width; ++j) lane[j] += lane[j + width];
  return lane[0];
}

// Upper bound of |x - decoded| for symmetric uniform codes: `steps` of a step, the rounding of scale, product and inverse
// (a few 2⁻²⁴ of absmax), and of a scale that is denormal.
SCRIMP_HD double uniform_bound(float absmax, double levels, double steps) {
  return absmax > 0 ? absmax * (steps / levels + 0x1p-21) + 0x1p-142 : 0.0;
}

// codes[i] = round(x[i]·levels/absmax) in -levels…levels. Nearest is half to even; stochastic is the fixed-point rule
// (round(x·inv·2¹⁶) + rand16) >> 16, unbiased to 2⁻¹⁷ of a step.
template <bool kStochastic>
SCRIMP_HD void round_codes(const float* x, std::uint32_t n, float absmax, std::int32_t levels, std::uint64_t key,
                           std::uint64_t index, std::int8_t* codes) {
  if (absmax < kTinyAbsmax) {
    const double inv = absmax > 0 ? levels / static_cast<double>(absmax) : 0.0;
    for (std::uint32_t i = 0; i < n; ++i) {
      const double scaled = x[i] * inv;
      std::int32_t code = kStochastic ? (static_cast<std::int32_t>(rint(scaled * 65536.0)) +
                                         static_cast<std::int32_t>(random16(key, index + i))) >> 16
                                      : static_cast<std::int32_t>(rint(scaled));
      codes[i] = static_cast<std::int8_t>(code > levels ? levels : code);
    }
    return;
  }
  if constexpr (!kStochastic) {
    const float inv = static_cast<float>(levels) / absmax;
    for (std::uint32_t i = 0; i < n; ++i) codes[i] = static_cast<std::int8_t>(static_cast<std::int32_t>(rintf(x[i] * inv)));
  } else {
    const float inv = static_cast<float>(levels) * 65536.0f / absmax;
    for (std::uint32_t i = 0; i < n; ++i) {
      const std::int32_t fixed = static_cast<std::int32_t>(rintf(x[i] * inv));
      const std::int32_t code = (fixed + static_cast<std::int32_t>(random16(key, index + i))) >> 16;
      codes[i] = static_cast<std::int8_t>(code > levels ? levels : code);
    }
  }
}

}  // namespace
}  // namespace scrimp
