#pragma once
// What one ISA offers for PowerSGD: passes over a matrix and its low-rank factors. Included by the files compiled per ISA,
// so no std template may appear here.
#include <cstddef>

namespace scrimp {

constexpr std::size_t kLargestRank = 16;

// A gradient g[rows][columns], its error memory m[rows][columns], and factors whose product p·q stands for both. No two of the
// arrays overlap.
struct LowRankRun {
  std::size_t rows, columns, rank;
  std::size_t begin, end;  // rows of `project` and `expand`, columns of `fold`
  float* g;
  const float* m;
  float* m_out;    // of `project`
  const float* p;  // [rows][rank]
  const float* q;  // [rank][columns]
  float* p_out;    // [rows][rank] of `project`
  float* q_out;    // [rank][columns] of `fold`
  bool stream;     // m_out is larger than the caches: past them
};

struct LowRankKernels {
  const char* isa;
  // m_out = (m − p·q) + g and p_out = m_out·qᵀ. What is not finite in g makes its row of p_out so.
  void (*project)(const LowRankRun&);
  // q_out = pᵀ·m.
  void (*fold)(const LowRankRun&);
  // g ← p·q, past the caches where that pays.
  void (*expand)(const LowRankRun&);
};

}  // namespace scrimp
