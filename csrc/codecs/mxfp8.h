#pragma once
// mxfp8: a block of 32 values is one E8M0 scale byte and 32 e4m3 elements up to 448. Elements that no encoder writes, ±NaN,
// decode to NaN.
#include "codecs/microscale.h"

namespace scrimp {
namespace {

struct MXFP8 : MicroscaleBlock<8, Microscale<Minifloat<4, 3>, 3, 8, 448>> {
  static constexpr const char* kName = "mxfp8";

  // Clamping loses up to 64 of 512.
  static SCRIMP_HD double bound(float absmax, const CodecOptions&) { return absmax > 0 ? 0.125 * absmax + 0x1p-137 : 0.0; }
};
static_assert(sizeof(MXFP8::Block) == 33, "mxfp8: wire layout changed");

}  // namespace
}  // namespace scrimp
