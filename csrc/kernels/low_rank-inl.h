#pragma once
// Loops of PowerSGD (Vogels et al. 2019), one pass over the gradient and its memory, one over the new memory and
// one that writes. Sums run in 16
// fixed lanes (rows of p) or in the order of rows (columns of q), so that they are equal on every ISA and thread count.
// Included by target_low_rank.cpp alone.
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "kernels/low_rank_table.h"
#include "kernels/wide-inl.h"

namespace scrimp {
namespace {

using Lanes = Wide<float>;
constexpr std::size_t kLanes = Lanes::kLanes;
constexpr std::size_t kPanelNbytes = 32768;  // of q_out, which stay in the first-level cache

// Lanes of a row, and fewer at its end.
struct Whole {
  static constexpr bool kAll = true;

  Lanes load(const float* x) const { return Lanes::load(x); }
  void store(const Lanes& v, float* x) const { v.store(x); }
};
struct First {
  static constexpr bool kAll = false;
  std::size_t count;

  Lanes load(const float* x) const { return Lanes::first(x, count); }
  void store(const Lanes& v, float* x) const { v.store_first(x, count); }
};

// Calls step(lanes, j) for the columns from `begin` to `end`.
template <class Step>
inline void for_lanes(std::size_t begin, std::size_t end, Step step) {
  for (; begin + kLanes <= end; begin += kLanes) step(Whole{}, begin);
  if (begin < end) step(First{end - begin}, begin);
}

// Ranks up to kKnownRank are known to the compiler; 0 stands for the others.
constexpr std::size_t kKnownRank = 4;

template <std::size_t kRank>
inline std::size_t rank_of(const LowRankRun& run) { return kRank ? kRank : run.rank; }

inline void store_past_caches(float* to, const Lanes& value) {
#pragma GCC unroll 4
  for (int i = 0; i < Lanes::kParts; ++i) stream_native(to + i * Lanes::kStep, value.part[i]);
}

// Narrower registers fill lines too slowly: on Zen 3 both ways take as long.
inline bool may_stream(const float* row) { return kNativeBytes == 64 && reinterpret_cast<std::uintptr_t>(row) % 64 == 0; }

// One row. q is read twice: it would not stay in the registers.
template <std::size_t kRank>
void project_row(const LowRankRun& run, std::size_t row) {
  const std::size_t rank = rank_of<kRank>(run);
  const float *g = run.g + row * run.columns, *m = run.m + row * run.columns, *p = run.p + row * rank, *q = run.q;
  float *m_out = run.m_out + row * run.columns, *out = run.p_out + row * rank;
  const bool stream = run.stream && may_stream(m_out);
  Lanes sum[kRank ? kRank : kLargestRank];
#pragma GCC unroll 4
  for (std::size_t k = 0; k < rank; ++k) sum[k] = Lanes::zero();
  for_lanes(0, run.columns, [&](auto lanes, std::size_t j) {
    Lanes value = lanes.load(m + j);
#pragma GCC unroll 4
    for (std::size_t k = 0; k < rank; ++k) value = value - lanes.load(q + k * run.columns + j) * Lanes::all(p[k]);
    value = value + lanes.load(g + j);
    if (decltype(lanes)::kAll && stream) store_past_caches(m_out + j, value);
    else lanes.store(value, m_out + j);
#pragma GCC unroll 4
    for (std::size_t k = 0; k < rank; ++k) sum[k] = sum[k] + value * lanes.load(q + k * run.columns + j);
  });
  for (std::size_t k = 0; k < rank; ++k) out[k] = sum_of_lanes(sum[k]);
}

template <std::size_t kRank>
void project_rows(const LowRankRun& run) {
  for (std::size_t row = run.begin; row < run.end; ++row) project_row<kRank>(run, row);
  if (run.stream) end_streaming();
}

// q_out[first, last) += the rows' part; kRows rows, which share its loads and stores.
template <std::size_t kRank, std::size_t kRows>
void fold_rows(const LowRankRun& run, std::size_t row, std::size_t first, std::size_t last) {
  const std::size_t rank = rank_of<kRank>(run);
  const float *m = run.m + row * run.columns, *p = run.p + row * rank;
  for_lanes(first, last, [&](auto lanes, std::size_t j) {
    Lanes value[kRows];
#pragma GCC unroll 8
    for (std::size_t r = 0; r < kRows; ++r) value[r] = lanes.load(m + r * run.columns + j);
#pragma GCC unroll 4
    for (std::size_t k = 0; k < rank; ++k) {
      float* out = run.q_out + k * run.columns + j;
      Lanes sum = lanes.load(out);
#pragma GCC unroll 8
      for (std::size_t r = 0; r < kRows; ++r) sum = sum + value[r] * Lanes::all(p[r * rank + k]);
      lanes.store(sum, out);
    }
  });
}

template <std::size_t kRank>
void fold_columns(const LowRankRun& run) {
  constexpr std::size_t kRows = 4;
  const std::size_t rank = rank_of<kRank>(run);
  const std::size_t panel = kPanelNbytes / sizeof(float) / rank;  // long runs: a page is fetched ahead as one
  for (std::size_t first = run.begin; first < run.end; first += panel) {
    const std::size_t last = first + panel < run.end ? first + panel : run.end;
    for (std::size_t k = 0; k < rank; ++k) memset(run.q_out + k * run.columns + first, 0, (last - first) * sizeof(float));
    std::size_t row = 0;
    for (; row + kRows <= run.rows; row += kRows) fold_rows<kRank, kRows>(run, row, first, last);
    for (; row < run.rows; ++row) fold_rows<kRank, 1>(run, row, first, last);
  }
}

template <std::size_t kRank>
void expand_rows(const LowRankRun& run) {
  const std::size_t rank = rank_of<kRank>(run);
  for (std::size_t row = run.begin; row < run.end; ++row) {
    float* g = run.g + row * run.columns;
    const float* p = run.p + row * rank;
    const bool stream = may_stream(g);
    for_lanes(0, run.columns, [&](auto lanes, std::size_t j) {
      Lanes sum = lanes.load(run.q + j) * Lanes::all(p[0]);
#pragma GCC unroll 4
      for (std::size_t k = 1; k < rank; ++k) sum = sum + lanes.load(run.q + k * run.columns + j) * Lanes::all(p[k]);
      if (decltype(lanes)::kAll && stream) store_past_caches(g + j, sum);
      else lanes.store(sum, g + j);
    });
  }
  if constexpr (kNativeBytes == 64) end_streaming();
}

template <std::size_t kRank = 1, class Body>
inline void with_rank(std::size_t rank, Body body) {
  if (rank == kRank) return body.template operator()<kRank>();
  if constexpr (kRank < kKnownRank) with_rank<kRank + 1>(rank, body);
  else body.template operator()<0>();
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

}  // namespace
}  // namespace scrimp
