#define SCRIMP_ISA_NAME v4vnni
#include "kernels/target-inl.h"
