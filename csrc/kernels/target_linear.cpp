// The kernels of one ISA for linear models and for data in few bits. Compiled once per ISA.
#include "kernels/code_gradient_loop-inl.h"
#include "kernels/gram_loop-inl.h"
#include "kernels/isa_name.h"
#include "kernels/linear_table.h"
#include "kernels/matrix_loop-inl.h"
#include "kernels/triangular-inl.h"

namespace scrimp {

extern const LinearKernels SCRIMP_OF_ISA(kLinear);
const LinearKernels SCRIMP_OF_ISA(kLinear) = {
    kLosses,
    sizeof kLosses / sizeof kLosses[0],
    &fix_weights<std::int8_t>,
    &fix_weights<Nibbles>,
    &product_rows<float>,
    &product_rows<std::int8_t>,
    &cross_rows,
    &gram_panel,
    &code_gram_nbytes,
    &code_gram_rows,
    &solve_lower,
    &solve_lower_transposed,
    {&quantize_rows<float>, &quantize_rows<double>, &range_rows<float>, &range_rows<double>, &pack_row, &unpack_row}};

}  // namespace scrimp
