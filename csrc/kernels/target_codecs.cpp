// The kernel table of one ISA and its codecs. Compiled once per ISA.
#include "kernels/block_loop-inl.h"
#include "kernels/isa_name.h"
#include "kernels/table.h"

namespace scrimp {

extern const LinearKernels SCRIMP_OF_ISA(kLinear);  // target_linear.cpp
extern const MatmulKernels SCRIMP_OF_ISA(kMatmul);  // target_matmul.cpp
extern const SumKernels SCRIMP_OF_ISA(kSums);       // target_sums.cpp
extern const KernelTable SCRIMP_OF_ISA(kTable);
const KernelTable SCRIMP_OF_ISA(kTable) = {SCRIMP_TEXT(SCRIMP_ISA_NAME), kCodecs, sizeof kCodecs / sizeof kCodecs[0],
                                           &SCRIMP_OF_ISA(kLinear), &SCRIMP_OF_ISA(kMatmul), &SCRIMP_OF_ISA(kSums)};

}  // namespace scrimp
