// Loops over rows of a matrix column by column: ranges, quantization with its exact noise, packing of codes below 8 bits.
// Compiled once per ISA: no std template, unnamed namespace.
#pragma once
#include <cmath>

#include "core/rng.h"
#include "kernels/linear_table.h"

namespace scrimp {
namespace {

template <class E>
bool range_rows(const E* x, std::ptrdiff_t stride, const RangeRun& run) {
  bool finite = true;
  for (std::size_t r = 0; r < run.n; ++r, x += stride) {
    E all = 0;
    for (std::size_t j = 0; j < run.d; ++j) {
      const double v = static_cast<double>(x[j]);
      run.low[j] = v < run.low[j] ? v : run.low[j];
      run.high[j] = v > run.high[j] ? v : run.high[j];
      run.integral[j] &= static_cast<std::uint8_t>(rint(v) == v);
    }
    for (std::size_t j = 0; j < run.d; ++j) all += x[j] * 0;  // 0, or NaN if any value is not finite
    finite &= all == 0;
  }
  return finite;
}

// One row: fixed point with 16 fractional bits where rounding is stochastic, exactly the codecs' rule.
template <class E, bool kStochastic>
inline void quantize_row(const QuantizeRun<E>& run, const E* x, std::uint64_t index, std::int8_t* codes,
                         std::uint32_t* fraction) {
  const std::int32_t levels = run.levels, centre = run.centre;
  for (std::size_t j = 0; j < run.d; ++j) {
    const float steps = static_cast<float>((static_cast<double>(x[j]) - run.low[j]) * run.inverse[j]);
    std::int32_t code;
    if constexpr (kStochastic) {
      std::int32_t fixed = static_cast<std::int32_t>(rintf(steps * 65536.0f));
      fixed = fixed < 0 ? 0 : fixed > levels << 16 ? levels << 16 : fixed;
      code = (fixed + static_cast<std::int32_t>(random16(run.key, index + j))) >> 16;
      fraction[j] = static_cast<std::uint32_t>(fixed) & 0xffffu;
    } else {
      code = static_cast<std::int32_t>(rintf(steps));
      code = code < 0 ? 0 : code > levels ? levels : code;
    }
    codes[j] = static_cast<std::int8_t>(code - centre);
  }
}

// Adds f(1−f)·2³² of one row: exactly, in two halves of 15 bits, and weighted.
template <class E>
inline void add_noise(const QuantizeRun<E>& run, double weight, const std::uint32_t* fraction) {
  std::uint32_t *low = run.noise, *high = run.noise_high;
  for (std::size_t j = 0; j < run.d; ++j) {
    const std::uint32_t variance = fraction[j] * (65536u - fraction[j]);
    low[j] += variance & 0x7fffu;
    high[j] += variance >> 15;
  }
  if (!run.weight) return;
  for (std::size_t j = 0; j < run.d; ++j)
    run.weighted_noise[j] += weight * (static_cast<double>(fraction[j] * (65536u - fraction[j])) * 0x1p-32);
}

constexpr std::size_t kQuantizeColumns = 1024;  // of a row at once: bounds the stack

// The same run for `count` columns from `begin` on.
template <class E>
inline QuantizeRun<E> columns_of(QuantizeRun<E> run, std::size_t begin, std::size_t count) {
  run.d = count;
  run.low += begin;
  run.inverse += begin;
  run.sum += begin;
  run.noise += begin;
  run.noise_high += begin;
  if (run.weight) run.weighted_noise += begin;
  return run;
}

template <class E>
inline void quantize_columns(const QuantizeRun<E>& run, std::size_t r, const E* x, std::uint64_t index, std::int8_t* codes) {
  const double weight = run.weight ? run.weight[r] : 1.0;
  for (std::size_t j = 0; j < run.d; ++j) run.sum[j] += weight * static_cast<double>(x[j]);
  std::uint32_t fraction[kQuantizeColumns];
  if (!run.stochastic) return quantize_row<E, false>(run, x, index, codes, fraction);
  quantize_row<E, true>(run, x, index, codes, fraction);
  add_noise(run, weight, fraction);
}

template <class E>
void quantize_rows(const QuantizeRun<E>& run) {
  for (std::size_t begin = 0; begin < run.d; begin += kQuantizeColumns) {
    const std::size_t left = run.d - begin;
    const QuantizeRun<E> part = columns_of(run, begin, left < kQuantizeColumns ? left : kQuantizeColumns);
    for (std::size_t r = 0; r < run.n; ++r) {
      const E* x = run.x + static_cast<std::ptrdiff_t>(r) * run.stride + begin;
      quantize_columns(part, r, x, run.index + r * run.d + begin, run.codes + r * run.d + begin);
    }
  }
}

// A row of d codes of `bits` bits lies in ⌈d·bits/8⌉ bytes: with h = ⌈d/per⌉ and per = 8/bits, byte i holds the codes
// i, i + h, i + 2h, … from its low bits up. Codes are centred: stored is code + 2^(bits−1).
void pack_row(int bits, const std::int8_t* codes, std::size_t d, std::uint8_t* row) {
  const std::size_t per = 8u / static_cast<unsigned>(bits), h = (d + per - 1) / per;
  const int centre = 1 << (bits - 1);
  memset(row, 0, h);
  for (std::size_t p = 0; p < per; ++p) {
    const std::size_t count = p * h >= d ? 0 : d - p * h < h ? d - p * h : h;
    for (std::size_t i = 0; i < count; ++i)
      row[i] = static_cast<std::uint8_t>(row[i] | ((codes[p * h + i] + centre) << (static_cast<int>(p) * bits)));
  }
}

void unpack_row(int bits, const std::uint8_t* row, std::size_t d, std::int8_t* codes) {
  const std::size_t per = 8u / static_cast<unsigned>(bits), h = (d + per - 1) / per;
  const int centre = 1 << (bits - 1), mask = (1 << bits) - 1;
  for (std::size_t p = 0; p < per; ++p) {
    const std::size_t count = p * h >= d ? 0 : d - p * h < h ? d - p * h : h;
    for (std::size_t i = 0; i < count; ++i)
      codes[p * h + i] = static_cast<std::int8_t>(((row[i] >> (static_cast<int>(p) * bits)) & mask) - centre);
  }
}

}  // namespace
}  // namespace scrimp
