// The kernel table of one ISA. Compiled once per ISA by target_<isa>.cpp, which names it.
#include "kernels/block_loop-inl.h"
#include "kernels/table.h"

#define SCRIMP_PASTE_(a, b) a##b
#define SCRIMP_PASTE(a, b) SCRIMP_PASTE_(a, b)
#define SCRIMP_TEXT_(a) #a
#define SCRIMP_TEXT(a) SCRIMP_TEXT_(a)

namespace scrimp {

extern const KernelTable SCRIMP_PASTE(kTable_, SCRIMP_ISA_NAME);
const KernelTable SCRIMP_PASTE(kTable_, SCRIMP_ISA_NAME) = {SCRIMP_TEXT(SCRIMP_ISA_NAME), kCodecs,
                                                          sizeof kCodecs / sizeof kCodecs[0]};

}  // namespace scrimp
