#pragma once
// Floats as bits, and reductions over a block whose result is the same on every ISA.
// Unnamed namespace: every ISA keeps its own copy (CONTRIBUTING.md, "Files compiled per ISA").
#include <cmath>
#include <cstdint>
#include <cstring>

#include "core/hd.h"

namespace scrimp {
namespace {

constexpr std::uint32_t kInfBits = 0x7f800000u;  // |x| as an integer is >= this for NaN and ±Inf
constexpr std::uint32_t kNanBits = 0x7fc00000u;
constexpr float kMaxFloat = 0x1.fffffep127f;

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

SCRIMP_HD std::uint32_t magnitude_bits(float x) { return float_bits(x) & 0x7fffffffu; }

// Bits of max |x[i]|. As integers, magnitudes compare like floats and NaN is the largest of all.
SCRIMP_HD std::uint32_t absmax_bits(const float* x, std::uint32_t n) {
  std::uint32_t top = 0;
  for (std::uint32_t i = 0; i < n; ++i) {
    const std::uint32_t bits = magnitude_bits(x[i]);
    top = bits > top ? bits : top;
  }
  return top;
}

// Sum of term(i), i < n, in one order for every ISA: lane i mod 16 first, then the lanes pairwise.
template <class Term>
SCRIMP_HD float lane_sum(std::uint32_t n, Term term) {
  float lane[16] = {};
  std::uint32_t i = 0;
  for (; i + 16 <= n; i += 16)
    for (std::uint32_t j = 0; j < 16; ++j) lane[j] += term(i + j);
  for (std::uint32_t j = 0; i + j < n; ++j) lane[j] += term(i + j);
  for (std::uint32_t width = 8; width; width /= 2)
    for (std::uint32_t j = 0; j < width; ++j) lane[j] += lane[j + width];
  return lane[0];
}

SCRIMP_HD float half_float(std::uint16_t h) {
  const std::uint32_t sign = static_cast<std::uint32_t>(h & 0x8000u) << 16, magnitude = h & 0x7fffu;
  const float scaled = bits_float(magnitude << 13) * 0x1p112f;  // exact: moves the exponent bias from 15 to 127
  const std::uint32_t bits = magnitude >= 0x7c00u ? (magnitude << 13) | kInfBits : float_bits(scaled);
  return bits_float(sign | bits);
}

// Half to even. Denormals: adding 0.5, whose last bit is worth 2⁻²⁴, rounds at the right place.
SCRIMP_HD std::uint16_t float_half(float x) {
  const std::uint32_t bits = float_bits(x), magnitude = bits & 0x7fffffffu, sign = (bits >> 16) & 0x8000u;
  const std::uint32_t odd = (magnitude >> 13) & 1u;
  const std::uint32_t normal = (magnitude - 0x38000000u + 0xfffu + odd) >> 13;
  const std::uint32_t denormal = float_bits(bits_float(magnitude) + 0.5f) - 0x3f000000u;
  std::uint32_t half = magnitude < 0x38800000u ? denormal : normal;
  half = magnitude >= 0x477ff000u ? 0x7c00u : half;  // 65520 and above round to infinity
  half = magnitude > kInfBits ? 0x7e00u : half;
  return static_cast<std::uint16_t>(sign | half);
}

}  // namespace
}  // namespace scrimp
