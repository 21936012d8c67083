#pragma once
// rot4: a block of 1024 values (or 256) is a sign seed of 3 bytes, one fp32 scale and rotated codes of 4 bits: 4.055 bits a value.
#include "codecs/rotation.h"

namespace scrimp {
namespace {

template <std::uint32_t kBlockSize>
struct Rot4 : RotatedBlock<4, kBlockSize> {
  static constexpr const char* kName = "rot4";
};
static_assert(sizeof(Rot4<1024>::Block) == 519, "rot4: wire layout changed");

}  // namespace
}  // namespace scrimp
