#pragma once
// THE list of codecs, in the order that users see. Kernels, bindings and the contract tests are stamped from it; a codec is
// one header and one line.
//   SCRIMP_CAST_CODECS   one stored number a value
//   SCRIMP_BLOCK_CODECS  blocks with a scale; further ones of the same name are its variants, the first is the default
//   SCRIMP_STEP_CODECS   a fixed step
#include "codecs/bf16.h"
#include "codecs/e4m3.h"
#include "codecs/e5m2.h"
#include "codecs/f16.h"
#include "codecs/int2.h"
#include "codecs/int3.h"
#include "codecs/int4.h"
#include "codecs/int6.h"
#include "codecs/int8.h"
#include "codecs/mxfp4.h"
#include "codecs/mxfp8.h"
#include "codecs/nf4.h"
#include "codecs/q4_0.h"
#include "codecs/q8_0.h"
#include "codecs/raw.h"
#include "codecs/rot1.h"
#include "codecs/rot2.h"
#include "codecs/rot3.h"
#include "codecs/rot4.h"
#include "codecs/sign.h"
#include "codecs/step.h"
#include "codecs/topk.h"

#define SCRIMP_CAST_CODECS(X) X(Raw) X(F16) X(BF16) X(E4M3) X(E5M2)

#define SCRIMP_BLOCK_CODECS(X)                      \
  X(Int8<128>) X(Int8<32>) X(Int8<64>) X(Int8<256>) \
  X(Int6<128>) X(Int6<32>)                          \
  X(Int4<128>) X(Int4<32>) X(Int4<64>) X(Int4<256>) \
  X(Int3<128>) X(Int3<32>)                          \
  X(Int2<128>) X(Int2<32>)                          \
  X(Sign<128>) X(Sign<32>)                          \
  X(NF4<64>) X(NF4<32>) X(NF4<128>) X(NF4<256>)     \
  X(MXFP4)                                          \
  X(MXFP8)                                          \
  X(Q8_0)                                           \
  X(Q4_0)                                           \
  X(Rot4<1024>) X(Rot4<256>)                        \
  X(Rot3<1024>) X(Rot3<256>)                        \
  X(Rot2<1024>) X(Rot2<256>)                        \
  X(Rot1<1024>) X(Rot1<256>)                        \
  X(TopK)

#define SCRIMP_STEP_CODECS(X) X(Step8) X(Step16)
