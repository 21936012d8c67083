#define SCRIMP_ISA_NAME v3
#include "kernels/target-inl.h"
