#pragma once
// rot1: a block of 1024 values (or 256) is a sign seed of 3 bytes, one fp32 scale and rotated codes of 1 bit: 1.055 bits a value.
#include "codecs/rotation.h"

namespace scrimp {
namespace {

template <std::uint32_t kBlockSize>
struct Rot1 : RotatedBlock<1, kBlockSize> {
  static constexpr const char* kName = "rot1";
};
static_assert(sizeof(Rot1<1024>::Block) == 135, "rot1: wire layout changed");

}  // namespace
}  // namespace scrimp
