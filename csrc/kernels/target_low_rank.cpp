// The kernels of one ISA for PowerSGD. Compiled once per ISA.
#include "kernels/isa_name.h"
#include "kernels/low_rank-inl.h"

namespace scrimp {

extern const LowRankKernels SCRIMP_OF_ISA(kLowRank);
const LowRankKernels SCRIMP_OF_ISA(kLowRank) = {SCRIMP_TEXT(SCRIMP_ISA_NAME), &project, &fold, &expand};

}  // namespace scrimp
