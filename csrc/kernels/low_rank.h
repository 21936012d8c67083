#pragma once
// PowerSGD over whole matrices with threads: what bindings and C++ tests call. Bytes do not depend on threads or ISA.
#include <cstddef>

#include "kernels/low_rank_table.h"

namespace scrimp {

// `begin` and `end` of the run are set here.
void low_rank_project(LowRankRun run, int threads);
void low_rank_fold(LowRankRun run, int threads);
void low_rank_expand(LowRankRun run, int threads);

// Makes the columns of p[rows][rank] orthonormal by Gram–Schmidt, twice, in double precision and one fixed order. A column
// that depends on those before it becomes zero.
void orthonormalize(float* p, std::size_t rows, std::size_t rank);

}  // namespace scrimp
