#pragma once
// THE list of codecs. Kernels, bindings and the contract tests are stamped from it; a codec is one header and one entry.
#include "codecs/casts.h"
#include "codecs/int4.h"
#include "codecs/int8.h"
#include "codecs/sign.h"
#include "codecs/step.h"

#define SCRIMP_BLOCK_CODECS(X) X(Int8) X(Int4) X(Sign)
#define SCRIMP_CAST_CODECS(X) X(Raw) X(F16) X(BF16)
#define SCRIMP_STEP_CODECS(X) X(Step8) X(Step16)
