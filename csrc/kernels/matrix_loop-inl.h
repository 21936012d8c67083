// Loops over rows of a matrix column by column: ranges, quantization with its exact noise, packing of codes below 8 bits.
// Compiled once per ISA: no std template, unnamed namespace.
#pragma once
#include <cmath>

#include "core/rng.h"
#include "kernels/leaf-inl.h"
#include "kernels/linear_table.h"
#include "kernels/quantize_block-inl.h"

namespace scrimp {
namespace {

// Adds each column's distance from the integers: 0 while all are integers, NaN for ever once one is NaN or infinite.
template <class E, int kRows>
inline void range_of_rows(const E* __restrict x, std::ptrdiff_t stride, const RangeRun<E>& run) {
  E *__restrict low = run.low, *__restrict high = run.high, *__restrict apart = run.apart;
  for (std::size_t j = 0; j < run.d; ++j) {
    E least = low[j], most = high[j], away = apart[j];
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const E value = x[r * stride + static_cast<std::ptrdiff_t>(j)];
      least = value < least ? value : least;
      most = value > most ? value : most;
      const E rounded = sizeof(E) == sizeof(float) ? static_cast<E>(rintf(static_cast<float>(value))) : static_cast<E>(rint(static_cast<double>(value)));
      const E distance = value - rounded;
      away += distance < 0 ? -distance : distance;
    }
    low[j] = least;
    high[j] = most;
    apart[j] = away;
  }
}

template <class E>
bool range_rows(const E* x, std::ptrdiff_t stride, const RangeRun<E>& run) {
  constexpr int kTogether = 8;
  std::size_t r = 0;
  for (; r + kTogether <= run.n; r += kTogether, x += kTogether * stride) range_of_rows<E, kTogether>(x, stride, run);
  for (; r < run.n; ++r, x += stride) range_of_rows<E, 1>(x, stride, run);
  const E* apart = run.apart;
  bool finite = true;
  for (std::size_t j = 0; j < run.d; ++j) finite &= apart[j] == apart[j];
  return finite;
}

constexpr std::size_t kQuantizeColumns = 1024;  // of a row at once: bounds the stack
constexpr std::size_t kDrawGroup = 32;          // values that share 16 draws (core/rng.h)

// The 16 random bits of the indices index … index + n lie in bits[index % 32 …]: random16, a whole group at a time.
inline const std::uint16_t* random_row(std::uint64_t key, std::uint64_t index, std::size_t n, std::uint16_t* bits) {
  const std::size_t skip = index % kDrawGroup, n_groups = (skip + n + kDrawGroup - 1) / kDrawGroup;
  for (std::size_t g = 0; g < n_groups; ++g) {
    const std::uint64_t counter = (index / kDrawGroup + g) * 16, page = counter >> 32;
    const std::uint64_t page_key = page ? mix64(key ^ page) : key;
    for (std::uint32_t i = 0; i < 16; ++i) {
      const std::uint32_t draw = random32(page_key, static_cast<std::uint32_t>(counter) + i);
      bits[g * kDrawGroup + i] = static_cast<std::uint16_t>(draw);
      bits[g * kDrawGroup + 16 + i] = static_cast<std::uint16_t>(draw >> 16);
    }
  }
  return bits + skip;
}

// One row, up to kQuantizeColumns: steps above the grid's low end in fp32; fixed point with 16 fractional bits where
// rounding is stochastic, the codecs' rule.
template <class E>
inline void steps_of(const QuantizeRun<E>& run, const E* __restrict x, float* __restrict steps) {
  const double *__restrict low = run.low, *__restrict inverse = run.inverse;
  for (std::size_t j = 0; j < run.d; ++j) steps[j] = static_cast<float>((static_cast<double>(x[j]) - low[j]) * inverse[j]);
}

// x held within 0 … top, NaN at 0: before it becomes an integer, as floats beyond 32 bits have none.
inline float within(float x, float top) {
  x = x > 0.0f ? x : 0.0f;
  return x < top ? x : top;
}

template <class E>
inline void round_nearest(const QuantizeRun<E>& run, const float* __restrict steps, std::int8_t* __restrict codes) {
  const std::int32_t centre = run.centre;
  const float top = static_cast<float>(run.levels);
  for (std::size_t j = 0; j < run.d; ++j) codes[j] = static_cast<std::int8_t>(round_even(within(steps[j], top)) - centre);
}

template <class E>
inline void round_stochastic(const QuantizeRun<E>& run, const float* __restrict steps, const std::uint16_t* __restrict bits,
                             std::int8_t* __restrict codes, std::uint32_t* __restrict fraction) {
  const std::int32_t centre = run.centre;
  const float top = static_cast<float>(run.levels << 16);
  for (std::size_t j = 0; j < run.d; ++j) {
    const std::int32_t fixed = round_even(within(steps[j] * 65536.0f, top));
    codes[j] = static_cast<std::int8_t>(((fixed + static_cast<std::int32_t>(bits[j])) >> 16) - centre);
    fraction[j] = static_cast<std::uint32_t>(fixed) & 0xffffu;
  }
}

// Adds f(1−f)·2³² of one row: exactly, in two halves of 15 bits, and weighted.
template <class E>
inline void add_noise(const QuantizeRun<E>& run, double weight, const std::uint32_t* __restrict fraction) {
  std::uint32_t *__restrict low = run.noise, *__restrict high = run.noise_high;
  for (std::size_t j = 0; j < run.d; ++j) {
    const std::uint32_t variance = fraction[j] * (65536u - fraction[j]);
    low[j] += variance & 0x7fffu;
    high[j] += variance >> 15;
  }
  if (!run.weight) return;
  for (std::size_t j = 0; j < run.d; ++j) {
    const std::int32_t variance = static_cast<std::int32_t>(fraction[j] * (65536u - fraction[j]));
    run.weighted_noise[j] += weight * (static_cast<double>(variance) * 0x1p-32);
  }
}

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

// sum[j] += Σ_r weight[r]·x[r][j] over kRows rows, row after row.
template <class E, int kRows>
inline void add_columns(const QuantizeRun<E>& run, std::size_t first, const E* __restrict x) {
  double weight[kRows];
  for (int r = 0; r < kRows; ++r) weight[r] = run.weight ? run.weight[first + r] : 1.0;
  double* __restrict sum = run.sum;
  for (std::size_t j = 0; j < run.d; ++j) {
    double total = sum[j];
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) total += weight[r] * static_cast<double>(x[r * run.stride + static_cast<std::ptrdiff_t>(j)]);
    sum[j] = total;
  }
}

template <class E>
inline void quantize_columns(const QuantizeRun<E>& run, std::size_t r, const E* x, std::uint64_t index, std::int8_t* codes) {
  const double weight = run.weight ? run.weight[r] : 1.0;
  float steps[kQuantizeColumns];
  steps_of(run, x, steps);
  if (!run.stochastic) return round_nearest(run, steps, codes);
  std::uint16_t bits[kQuantizeColumns + 2 * kDrawGroup];
  std::uint32_t fraction[kQuantizeColumns];
  round_stochastic(run, steps, random_row(run.key, index, run.d, bits), codes, fraction);
  add_noise(run, weight, fraction);
}

// Rows first … first + count, of up to kQuantizeColumns columns that begin at `column`, one after the other.
template <class E>
inline void quantize_singly(const QuantizeRun<E>& run, std::size_t first, std::size_t count, std::size_t column) {
  const E* x = run.x + static_cast<std::ptrdiff_t>(first) * run.stride + column;
  if (count == kBlockRows) add_columns<E, kBlockRows>(run, first, x);
  for (std::size_t r = first; r < first + count; ++r, x += run.stride) {
    if (count < kBlockRows) add_columns<E, 1>(run, r, x);
    quantize_columns(run, r, x, run.index + r * run.d_all + column, run.codes + r * run.d_all + column);
  }
}

// The first columns of eight rows, register by register; returns how many. Weights, and float64, take the other way.
inline std::size_t quantize_together(const QuantizeRun<double>&, std::size_t, std::size_t) { return 0; }

inline std::size_t quantize_together(const QuantizeRun<float>& run, std::size_t first, std::size_t column) {
  if (run.weight) return 0;
  const std::size_t d = run.d / kRoundLanes * kRoundLanes;
  const float* x = run.x + static_cast<std::ptrdiff_t>(first) * run.stride + column;
  std::int8_t* codes = run.codes + first * run.d_all + column;
  if (!run.stochastic) {
    for (std::size_t j = 0; j < d; j += kRoundLanes) quantize_lanes<false>(run, x, codes, j, nullptr);
    return d;
  }
  std::uint16_t bits[kBlockRows][kQuantizeColumns + 2 * kDrawGroup];
  const std::uint16_t* draws[kBlockRows];
  for (std::size_t r = 0; r < kBlockRows; ++r)
    draws[r] = random_row(run.key, run.index + (first + r) * run.d_all + column, d, bits[r]);
  for (std::size_t j = 0; j < d; j += kRoundLanes) quantize_lanes<true>(run, x, codes, j, draws);
  return d;
}

template <class E>
void quantize_rows(const QuantizeRun<E>& run) {
  for (std::size_t begin = 0; begin < run.d_all; begin += kQuantizeColumns) {
    const std::size_t left = run.d_all - begin;
    const QuantizeRun<E> part = columns_of(run, begin, left < kQuantizeColumns ? left : kQuantizeColumns);
    for (std::size_t r = 0; r < run.n; r += kBlockRows) {
      const std::size_t count = run.n - r < kBlockRows ? run.n - r : kBlockRows;
      const std::size_t done = count == kBlockRows ? quantize_together(part, r, begin) : 0;
      if (done < part.d) quantize_singly(columns_of(part, done, part.d - done), r, count, begin + done);
    }
  }
}

// A row of d codes of kBits bits lies in ⌈d/per⌉ bytes, per = 8/kBits: with h = ⌈d/per⌉, byte i holds the codes i, i + h,
// i + 2h, … from its low bits up. Codes are centred: stored is code + 2^(kBits−1).
template <int kBits>
struct PackedRow {
  static constexpr std::size_t kPer = 8 / kBits;
  static constexpr int kCentre = 1 << (kBits - 1), kMask = (1 << kBits) - 1;

  static std::size_t count(std::size_t p, std::size_t h, std::size_t d) {
    return p * h >= d ? 0 : d - p * h < h ? d - p * h : h;
  }

  static void pack(const std::int8_t* __restrict codes, std::size_t d, std::uint8_t* __restrict row) {
    const std::size_t h = (d + kPer - 1) / kPer;
    memset(row, 0, h);
#pragma GCC unroll 8
    for (std::size_t p = 0; p < kPer; ++p)
      for (std::size_t i = 0; i < count(p, h, d); ++i)
        row[i] = static_cast<std::uint8_t>(row[i] | ((codes[p * h + i] + kCentre) << (p * kBits)));
  }

  static void unpack(const std::uint8_t* __restrict row, std::size_t d, std::int8_t* __restrict codes) {
    const std::size_t h = (d + kPer - 1) / kPer;
#pragma GCC unroll 8
    for (std::size_t p = 0; p < kPer; ++p) {
      const std::size_t n = count(p, h, d);
      std::int8_t* __restrict part = codes + p * h;
      for (std::size_t i = 0; i < n; ++i) part[i] = static_cast<std::int8_t>(((row[i] >> (p * kBits)) & kMask) - kCentre);
    }
  }
};

void pack_row(int bits, const std::int8_t* codes, std::size_t d, std::uint8_t* row) {
  return bits == 4 ? PackedRow<4>::pack(codes, d, row) : bits == 2 ? PackedRow<2>::pack(codes, d, row) : PackedRow<1>::pack(codes, d, row);
}

void unpack_row(int bits, const std::uint8_t* row, std::size_t d, std::int8_t* codes) {
  return bits == 4   ? PackedRow<4>::unpack(row, d, codes)
         : bits == 2 ? PackedRow<2>::unpack(row, d, codes)
                     : PackedRow<1>::unpack(row, d, codes);
}

}  // namespace
}  // namespace scrimp
