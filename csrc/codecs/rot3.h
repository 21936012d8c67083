#pragma once
// rot3: a block of 1024 values (or 256) is a sign seed of 3 bytes, one fp32 scale and rotated codes of 3 bits: 3.055 bits a value.
#include "codecs/rotation.h"

namespace scrimp {
namespace {

template <std::uint32_t kBlockSize>
struct Rot3 : RotatedBlock<3, kBlockSize> {
  static constexpr const char* kName = "rot3";
};
static_assert(sizeof(Rot3<1024>::Block) == 391, "rot3: wire layout changed");

}  // namespace
}  // namespace scrimp
