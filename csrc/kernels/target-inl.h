// The kernel table of one ISA. Compiled once per ISA by target_<isa>.cpp, which names it.
#include "kernels/block_loop-inl.h"
#include "kernels/gradient_loop-inl.h"
#include "kernels/gram_loop-inl.h"
#include "kernels/matrix_loop-inl.h"
#include "kernels/table.h"

#define SCRIMP_PASTE_(a, b) a##b
#define SCRIMP_PASTE(a, b) SCRIMP_PASTE_(a, b)
#define SCRIMP_TEXT_(a) #a
#define SCRIMP_TEXT(a) SCRIMP_TEXT_(a)

namespace scrimp {

namespace {
constexpr LinearKernels kLinear = {kLosses,
                                   sizeof kLosses / sizeof kLosses[0],
                                   &product_rows<float>,
                                   &product_rows<std::int8_t>,
                                   &gram_panel,
                                   &code_gram_nbytes,
                                   &code_gram_rows,
                                   {&quantize_rows<float>, &quantize_rows<double>, &range_rows<float>, &range_rows<double>,
                                    &pack_row, &unpack_row}};
}

extern const KernelTable SCRIMP_PASTE(kTable_, SCRIMP_ISA_NAME);
const KernelTable SCRIMP_PASTE(kTable_, SCRIMP_ISA_NAME) = {SCRIMP_TEXT(SCRIMP_ISA_NAME), kCodecs,
                                                          sizeof kCodecs / sizeof kCodecs[0], &kLinear};

}  // namespace scrimp
