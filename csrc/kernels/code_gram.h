#pragma once
// The exact Gram matrix of codes, and of float rows that are rounded to codes on the way and never stored. What bindings
// call.
#include <cstddef>
#include <cstdint>

#include "kernels/matrix.h"
#include "kernels/rows.h"

namespace scrimp {

struct CodeGramArgs {
  MatrixView x;                            // [n][d] codes; floats when `quantize` is set
  const QuantizeArgs* quantize = nullptr;  // how to round x
  const double* scale = nullptr;           // [d] x ≈ offset + scale·code
  const double* offset = nullptr;
  MatrixView y;                            // [n][k]; data nullptr: k = 0
  int threads = 0;
};

// A leaf's sums: Qᵀy [d][k], Σy [k], Σ‖y‖², n; when rounding also Σx [d] and the noise Σ Var(e) [d].
inline std::size_t code_gram_width(std::size_t d, std::size_t k, bool rounding) {
  return d * k + k + 2 + (rounding ? 2 * d : 0);
}

// c [d][d] = Σ c_i·c_iᵀ and sum [d] = Σ c_i, exact for any number of rows; leaves [n_leaves(n)][code_gram_width].
void code_gram(const CodeGramArgs& args, std::int64_t* c, std::int64_t* sum, double* leaves);

}  // namespace scrimp
