#pragma once
// mxfp4: a block of 32 values is one E8M0 scale byte and 32 e2m1 elements (0, ½, 1, 1½, 2, 3, 4, 6), two in a byte, laid out
// as ggml does. Ties go to even, as OCP demands; ggml takes the smaller magnitude.
#include "codecs/microscale.h"

namespace scrimp {
namespace {

struct MXFP4 : MicroscaleBlock<4, Microscale<Minifloat<2, 1>, 1, 2, 6>> {
  static constexpr const char* kName = "mxfp4";

  // Clamping loses up to 2 of 8; the smallest scale is 2^-127.
  static SCRIMP_HD double bound(float absmax, const CodecOptions&) { return absmax > 0 ? 0.5 * absmax + 0x1p-128 : 0.0; }
};
static_assert(sizeof(MXFP4::Block) == 17, "mxfp4: wire layout changed");

}  // namespace
}  // namespace scrimp
