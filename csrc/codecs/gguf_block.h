#pragma once
// What q8_0 and q4_0 share: GGUF's block of 32 values is an fp16 scale d and 32 codes. Bytes are those of the gguf package.
#include "codecs/float_bits.h"
#include "codecs/options.h"
#include "codecs/packing.h"

namespace scrimp {
namespace {

template <std::uint32_t kBits>
struct GgufBlock {
  static constexpr const char* kVariantKey = nullptr;
  static constexpr std::uint32_t kBlock = 32;
  static constexpr std::uint32_t kChoices = kNoChoice;
  struct __attribute__((packed)) Block {
    std::uint16_t scale;
    std::uint8_t code[packed_nbytes<kBits>(kBlock)];
  };
  static_assert(sizeof(Block) == 2 + 4 * kBits, "GGUF: wire layout changed");

  static constexpr std::uint32_t nbytes(std::uint32_t n, const CodecOptions&) { return 2 + packed_nbytes<kBits>(n); }
  static SCRIMP_HD bool contractive(const CodecOptions&) { return true; }

  static SCRIMP_HD void poison(std::uint32_t, Block& b) {
    memset(&b, 0, sizeof b);
    b.scale = 0x7e00u;
  }
};

}  // namespace
}  // namespace scrimp
