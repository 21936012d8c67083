#pragma once
// The Hadamard transform of up to 1024 values, unnormalised. With AVX-512 strides 1 to 8 stay in one register and
// the larger ones go three at a time through eight, so that a block of 1024 crosses the first-level cache twice instead of
// seven times; fewer or narrower registers would spill. Every sum is the one of the plain loops: the same bits everywhere.
#include <cstdint>
#include <cstring>

#include "core/hd.h"

namespace scrimp {
namespace {

#if defined(__CUDACC__)
// Strides 1, 2, 4, 8 of the transform within 16 values.
SCRIMP_HD void hadamard16(float* x) {
  for (std::uint32_t h = 1; h < 16; h *= 2) {
    float run[16];
    for (std::uint32_t j = 0; j < 16; ++j) run[j] = j & h ? x[j ^ h] - x[j] : x[j] + x[j ^ h];
    for (std::uint32_t j = 0; j < 16; ++j) x[j] = run[j];
  }
}

SCRIMP_HD std::uint32_t hadamard_octets(float*, std::uint32_t) { return 0; }
#elif defined(__AVX512F__)
// Sixteen values in one register; v·(±1) is exact.
typedef float HadamardLanes __attribute__((vector_size(64)));

SCRIMP_HD void hadamard_lanes(HadamardLanes& v) {
  const HadamardLanes s1 = {1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1};
  const HadamardLanes s2 = {1, 1, -1, -1, 1, 1, -1, -1, 1, 1, -1, -1, 1, 1, -1, -1};
  const HadamardLanes s4 = {1, 1, 1, 1, -1, -1, -1, -1, 1, 1, 1, 1, -1, -1, -1, -1};
  const HadamardLanes s8 = {1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1, -1, -1, -1};
  v = v * s1 + __builtin_shufflevector(v, v, 1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14);
  v = v * s2 + __builtin_shufflevector(v, v, 2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13);
  v = v * s4 + __builtin_shufflevector(v, v, 4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11);
  v = v * s8 + __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7);
}

SCRIMP_HD void hadamard16(float* x) {
  HadamardLanes v;
  memcpy(&v, x, sizeof v);
  hadamard_lanes(v);
  memcpy(x, &v, sizeof v);
}

// Strides kStride, 2·kStride, 4·kStride of the eight runs of 16 values that lie kStride apart; with kInner strides 1 to 8 of
// each run first.
template <std::uint32_t kStride, bool kInner>
SCRIMP_HD void hadamard_octet(float* x) {
  HadamardLanes v[8];
  for (int k = 0; k < 8; ++k) {
    memcpy(&v[k], x + k * kStride, sizeof v[k]);
    if constexpr (kInner) hadamard_lanes(v[k]);
  }
  for (int h = 1; h < 8; h *= 2)
    for (int k = 0; k < 8; ++k) {
      if (k & h) continue;
      const HadamardLanes low = v[k], high = v[k + h];
      v[k] = low + high;
      v[k + h] = low - high;
    }
  for (int k = 0; k < 8; ++k) memcpy(x + k * kStride, &v[k], sizeof v[k]);
}

// The strides below 128, or all of 1024 values. Returns the first stride that is left to do; 0: none is done.
SCRIMP_HD std::uint32_t hadamard_octets(float* x, std::uint32_t n) {
  if (n < 128) return 0;
  for (std::uint32_t i = 0; i < n; i += 128) hadamard_octet<16, true>(x + i);
  if (n != 1024) return 128;
  for (std::uint32_t i = 0; i < 128; i += 16) hadamard_octet<128, false>(x + i);
  return 1024;
}
#else
// Sixteen values in four registers that every ISA has: a wider shuffle would be taken apart into single values.
SCRIMP_HD void hadamard16(float* x) {
  typedef float Four __attribute__((vector_size(16)));
  const Four s1 = {1, -1, 1, -1}, s2 = {1, 1, -1, -1};
  Four v[4];
  memcpy(v, x, sizeof v);
  for (Four& p : v) p = p * s1 + __builtin_shufflevector(p, p, 1, 0, 3, 2);
  for (Four& p : v) p = p * s2 + __builtin_shufflevector(p, p, 2, 3, 0, 1);
  const Four a = v[0] + v[1], b = v[0] - v[1], c = v[2] + v[3], d = v[2] - v[3];
  v[0] = a + c;
  v[1] = b + d;
  v[2] = a - c;
  v[3] = b - d;
  memcpy(x, v, sizeof v);
}

SCRIMP_HD std::uint32_t hadamard_octets(float*, std::uint32_t) { return 0; }
#endif

// x ← H·x, unnormalised, n a power of two in 16…1024.
SCRIMP_HD void hadamard(float* x, std::uint32_t n) {
  std::uint32_t h = hadamard_octets(x, n);
  if (!h) {
    for (std::uint32_t i = 0; i < n; i += 16) hadamard16(x + i);
    h = 16;
  }
  for (; h < n; h *= 2)
    for (std::uint32_t i = 0; i < n; i += 2 * h)
      for (std::uint32_t j = 0; j < h; ++j) {
        float *low = x + i, *high = x + i + h;
        const float a = low[j], b = high[j];
        low[j] = a + b;
        high[j] = a - b;
      }
}

}  // namespace
}  // namespace scrimp
