#pragma once
// rot2: a block of 1024 values (or 256) is a sign seed of 3 bytes, one fp32 scale and rotated codes of 2 bits: 2.055 bits a value.
#include "codecs/rotation.h"

namespace scrimp {
namespace {

template <std::uint32_t kBlockSize>
struct Rot2 : RotatedBlock<2, kBlockSize> {
  static constexpr const char* kName = "rot2";
};
static_assert(sizeof(Rot2<1024>::Block) == 263, "rot2: wire layout changed");

}  // namespace
}  // namespace scrimp
