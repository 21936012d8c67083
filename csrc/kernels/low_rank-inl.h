#pragma once
// Loops of PowerSGD (Vogels et al. 2019), two passes over the gradient and its memory and one that writes. Sums run in 16
// fixed lanes (rows of p) or in the order of rows (columns of q), so that they are equal on every ISA and thread count.
// Included by target_low_rank.cpp alone.
#include <cstddef>
#include <cstdint>
#include <cstring>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "kernels/low_rank_table.h"

namespace scrimp {
namespace {

constexpr std::size_t kLanes = 16;
constexpr std::size_t kPanelNbytes = 32768;  // of q_out, which stay in the first-level cache
typedef float Lanes __attribute__((vector_size(4 * kLanes)));
typedef std::uint32_t Bits __attribute__((vector_size(4 * kLanes)));

// The first `count` lanes from memory; the others are zero.
#define SCRIMP_LOAD(name, from, count) \
  Lanes name = {};                     \
  memcpy(&name, from, (count) * sizeof(float))

inline float lane_total(const float* lane) {
  float sum[kLanes];
  memcpy(sum, lane, sizeof sum);
  for (std::size_t width = kLanes / 2; width; width /= 2)
    for (std::size_t i = 0; i < width; ++i) sum[i] += sum[i + width];
  return sum[0];
}

inline bool row_is_finite(const float* x, std::size_t n) {
  Bits bad = {};
  const Bits exponent = Bits{} + 0x7f800000u;
  std::size_t j = 0;
  for (; j + kLanes <= n; j += kLanes) {
    Bits bits;
    memcpy(&bits, x + j, sizeof bits);
    bad |= reinterpret_cast<Bits>((bits & exponent) == exponent);
  }
  std::uint32_t any = 0, lane[kLanes];
  memcpy(lane, &bad, sizeof lane);
  for (std::size_t i = 0; i < kLanes; ++i) any |= lane[i];
  for (; j < n; ++j) {
    std::uint32_t bits;
    memcpy(&bits, x + j, sizeof bits);
    any |= static_cast<std::uint32_t>((bits & 0x7f800000u) == 0x7f800000u);
  }
  return !any;
}

// One row with a rank known to the compiler.
template <std::size_t kRank>
void project_row(const LowRankRun& run, std::size_t row) {
  const float *g = run.g + row * run.columns, *p = run.p + row * kRank, *q = run.q;
  float *m = run.m + row * run.columns, *out = run.p_out + row * kRank;
  Lanes sum[kRank] = {};
  const auto step = [&](std::size_t j, std::size_t count) {
    SCRIMP_LOAD(old, m + j, count);
    SCRIMP_LOAD(now, g + j, count);
    Lanes factor[kRank] = {};
    for (std::size_t k = 0; k < kRank; ++k) {
      memcpy(&factor[k], q + k * run.columns + j, count * sizeof(float));
      old = old - factor[k] * p[k];
    }
    old = old + now;
    memcpy(m + j, &old, count * sizeof(float));
    for (std::size_t k = 0; k < kRank; ++k) sum[k] = sum[k] + old * factor[k];
  };
  std::size_t j = 0;
  for (; j + kLanes <= run.columns; j += kLanes) step(j, kLanes);
  if (j < run.columns) step(j, run.columns - j);
  for (std::size_t k = 0; k < kRank; ++k) {
    float lane[kLanes];
    memcpy(lane, &sum[k], sizeof lane);
    out[k] = lane_total(lane);
  }
}

template <std::size_t kRank>
void project_rows(const LowRankRun& run) {
  for (std::size_t row = run.begin; row < run.end; ++row) {
    if (row_is_finite(run.g + row * run.columns, run.columns)) {
      project_row<kRank>(run, row);
    } else {
      for (std::size_t k = 0; k < kRank; ++k) run.p_out[row * kRank + k] = __builtin_nanf("");
    }
  }
}

template <std::size_t kRank>
void fold_columns(const LowRankRun& run) {
  constexpr std::size_t kRows = 4;
  constexpr std::size_t kPanel = kPanelNbytes / sizeof(float) / kRank;  // long runs: a page is fetched ahead as one
  for (std::size_t first = run.begin; first < run.end; first += kPanel) {
    const std::size_t last = first + kPanel < run.end ? first + kPanel : run.end;
    for (std::size_t k = 0; k < kRank; ++k) memset(run.q_out + k * run.columns + first, 0, (last - first) * sizeof(float));
    for (std::size_t row = 0; row < run.rows; row += kRows) {
      const std::size_t rows = run.rows - row < kRows ? run.rows - row : kRows;
      const float* m = run.m + row * run.columns;
      const float* p = run.p + row * kRank;
      const auto step = [&](std::size_t j, std::size_t count) {
        Lanes value[kRows] = {};
        for (std::size_t r = 0; r < rows; ++r) memcpy(&value[r], m + r * run.columns + j, count * sizeof(float));
        for (std::size_t k = 0; k < kRank; ++k) {
          float* out = run.q_out + k * run.columns + j;
          SCRIMP_LOAD(sum, out, count);
          for (std::size_t r = 0; r < rows; ++r) sum = sum + value[r] * p[r * kRank + k];
          memcpy(out, &sum, count * sizeof(float));
        }
      };
      std::size_t j = first;
      for (; j + kLanes <= last; j += kLanes) step(j, kLanes);
      if (j < last) step(j, last - j);
    }
  }
}

inline void store_past_caches(float* to, const Lanes& value) {
#if defined(__AVX512F__)
  __m512 v;
  memcpy(&v, &value, sizeof v);
  _mm512_stream_ps(to, v);
#else
  memcpy(to, &value, sizeof value);
#endif
}

template <std::size_t kRank>
void expand_rows(const LowRankRun& run) {
  for (std::size_t row = run.begin; row < run.end; ++row) {
    float* g = run.g + row * run.columns;
    const float* p = run.p + row * kRank;
    const bool aligned = reinterpret_cast<std::uintptr_t>(g) % 64 == 0;
    const auto value = [&](std::size_t j, std::size_t count, Lanes& sum) {
      for (std::size_t k = 0; k < kRank; ++k) {
        SCRIMP_LOAD(factor, run.q + k * run.columns + j, count);
        sum = k ? sum + factor * p[k] : factor * p[k];
      }
    };
    std::size_t j = 0;
    for (; j + kLanes <= run.columns; j += kLanes) {
      Lanes sum;
      value(j, kLanes, sum);
      if (aligned) {
        store_past_caches(g + j, sum);
      } else {
        memcpy(g + j, &sum, sizeof sum);
      }
    }
    if (j < run.columns) {
      Lanes sum;
      value(j, run.columns - j, sum);
      memcpy(g + j, &sum, (run.columns - j) * sizeof(float));
    }
  }
#if defined(__AVX512F__)
  _mm_sfence();
#endif
}

template <std::size_t kRank = 1, class Body>
inline void with_rank(std::size_t rank, Body body) {
  if (rank == kRank) return body.template operator()<kRank>();
  if constexpr (kRank < kLargestRank) with_rank<kRank + 1>(rank, body);
}

struct Project {
  const LowRankRun& run;
  template <std::size_t kRank>
  void operator()() const { project_rows<kRank>(run); }
};
struct Fold {
  const LowRankRun& run;
  template <std::size_t kRank>
  void operator()() const { fold_columns<kRank>(run); }
};
struct Expand {
  const LowRankRun& run;
  template <std::size_t kRank>
  void operator()() const { expand_rows<kRank>(run); }
};

void project(const LowRankRun& run) { with_rank(run.rank, Project{run}); }
void fold(const LowRankRun& run) { with_rank(run.rank, Fold{run}); }
void expand(const LowRankRun& run) { with_rank(run.rank, Expand{run}); }

#undef SCRIMP_LOAD

}  // namespace
}  // namespace scrimp
