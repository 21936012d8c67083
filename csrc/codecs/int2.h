#pragma once
// int2: a block of 128 values (or 32) is one fp32 scale and its codes in -1…1 as codes + 2, four in a byte.
#include "codecs/uniform.h"

namespace scrimp {
namespace {

template <std::uint32_t kBlockSize>
struct Int2 : IntBlock<2, kBlockSize> {
  static constexpr const char* kName = "int2";
};
static_assert(sizeof(Int2<128>::Block) == 36, "int2: wire layout changed");

}  // namespace
}  // namespace scrimp
