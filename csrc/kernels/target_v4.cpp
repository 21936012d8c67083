#define SCRIMP_ISA_NAME v4
#include "kernels/target-inl.h"
