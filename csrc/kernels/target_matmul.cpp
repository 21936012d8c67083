// The kernels of one ISA for products with weights in codec blocks. Compiled once per ISA.
#include "kernels/code_matmul_loop-inl.h"
#include "kernels/isa_name.h"

namespace scrimp {

extern const MatmulKernels SCRIMP_OF_ISA(kMatmul);
const MatmulKernels SCRIMP_OF_ISA(kMatmul) = {&dot_rows_with_outputs, &matvec<8>,      &matvec<4>, &round_rows,
                                              &code_matmul<8>,        &code_matmul<4>, &add_piece};

}  // namespace scrimp
