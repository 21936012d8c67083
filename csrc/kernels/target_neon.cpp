#define SCRIMP_ISA_NAME neon
#include "kernels/target-inl.h"
