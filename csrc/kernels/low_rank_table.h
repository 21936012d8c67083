#pragma once
// What one ISA offers for PowerSGD: passes over a matrix and its low-rank factors. Included by the files compiled per ISA,
// so no std template may appear here.
#include <cstddef>

namespace scrimp {

constexpr std::size_t kLargestRank = 16;

// A gradient g[rows][columns], its error memory m[rows][columns], and factors whose product p·q stands for both.
struct LowRankRun {
  std::size_t rows, columns, rank;
  std::size_t begin, end;  // rows of `project` and `expand`, columns of `fold`
  float* g;
  float* m;
  const float* p;  // [rows][rank]
  const float* q;  // [rank][columns]
  float* p_out;    // [rows][rank] of `project`
  float* q_out;    // [rank][columns] of `fold`
};

struct LowRankKernels {
  const char* isa;
  // m ← (m − p·q) + g and p_out = m·qᵀ. A row of g that is not finite leaves its row of m alone and makes p_out NaN.
  void (*project)(const LowRankRun&);
  // q_out = pᵀ·m.
  void (*fold)(const LowRankRun&);
  // g ← p·q, past the caches where that pays.
  void (*expand)(const LowRankRun&);
};

}  // namespace scrimp
