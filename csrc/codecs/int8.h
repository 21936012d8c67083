#pragma once
// int8: a block of 128 values (or 32, 64, 256) is one fp32 scale and its codes in -127…127 as signed bytes.
#include "codecs/uniform.h"

namespace scrimp {
namespace {

template <std::uint32_t kBlockSize>
struct Int8 : IntBlock<8, kBlockSize> {
  static constexpr const char* kName = "int8";
};
static_assert(sizeof(Int8<128>::Block) == 132, "int8: wire layout changed");

}  // namespace
}  // namespace scrimp
