#pragma once
// int3: a block of 128 values (or 32) is one fp32 scale and its codes in -3…3 as codes + 4 in a plane of 2 and a plane of 1 bit.
#include "codecs/uniform.h"

namespace scrimp {
namespace {

template <std::uint32_t kBlockSize>
struct Int3 : IntBlock<3, kBlockSize> {
  static constexpr const char* kName = "int3";
};
static_assert(sizeof(Int3<128>::Block) == 52, "int3: wire layout changed");

}  // namespace
}  // namespace scrimp
