#pragma once
// int4: a block of 128 values (or 32, 64, 256) is one fp32 scale and its codes in -7…7 as codes + 8, two in a byte.
#include "codecs/uniform.h"

namespace scrimp {
namespace {

template <std::uint32_t kBlockSize>
struct Int4 : IntBlock<4, kBlockSize> {
  static constexpr const char* kName = "int4";
};
static_assert(sizeof(Int4<128>::Block) == 68, "int4: wire layout changed");

}  // namespace
}  // namespace scrimp
