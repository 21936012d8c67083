#define SCRIMP_ISA_NAME v2
#include "kernels/target-inl.h"
