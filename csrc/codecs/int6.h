#pragma once
// int6: a block of 128 values (or 32) is one fp32 scale and its codes in -31…31 as codes + 32 in a plane of 4 and a plane of 2 bits.
#include "codecs/uniform.h"

namespace scrimp {
namespace {

template <std::uint32_t kBlockSize>
struct Int6 : IntBlock<6, kBlockSize> {
  static constexpr const char* kName = "int6";
};
static_assert(sizeof(Int6<128>::Block) == 100, "int6: wire layout changed");

}  // namespace
}  // namespace scrimp
