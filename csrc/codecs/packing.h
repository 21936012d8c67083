#pragma once
// Codes of 1, 2, 3, 4, 6 or 8 bits in bytes (docs/formats.md, "Packing"). A width that is no power of two is two planes:
// 6 = 4 + 2, 3 = 2 + 1, low bits first.
//   4 and 2 bits: with m = ⌈n·bits/8⌉, byte i holds the codes i, i + m, i + 2m… from its low bits up, so that
//                 neighbouring codes lie in neighbouring bytes and both directions vectorise
//   1 bit:        code i is bit i mod 8 of byte ⌊i/8⌋, as compare-to-mask instructions write it
// Codes beyond n are zero.
#include <cstdint>
#include <cstring>

#include "core/hd.h"

namespace scrimp {
namespace {

template <std::uint32_t kBits>
constexpr std::uint32_t packed_nbytes(std::uint32_t n) {
  if constexpr (kBits == 6) return packed_nbytes<4>(n) + packed_nbytes<2>(n);
  if constexpr (kBits == 3) return packed_nbytes<2>(n) + packed_nbytes<1>(n);
  return (n * kBits + 7) / 8;
}

// Eight bytes of 0 or 1 as the bits of one byte, lowest first.
SCRIMP_HD std::uint8_t gather_bits(const std::uint8_t* code) {
  std::uint64_t bytes;
  memcpy(&bytes, code, 8);
  return static_cast<std::uint8_t>((bytes * 0x0102040810204080ull) >> 56);
}

SCRIMP_HD void scatter_bits(std::uint8_t bits, std::uint8_t* code) {
  const std::uint64_t one_each = (bits * 0x0101010101010101ull) & 0x8040201008040201ull;
  const std::uint64_t bytes = ((one_each + 0x7f7f7f7f7f7f7f7full) >> 7) & 0x0101010101010101ull;
  memcpy(code, &bytes, 8);
}

// code[0…n) → out. Overwrites up to seven codes beyond n with zeros.
template <std::uint32_t kBits>
SCRIMP_HD void pack_codes(std::uint8_t* code, std::uint32_t n, std::uint8_t* out) {
  if constexpr (kBits == 8) {
    memcpy(out, code, n);
  } else if constexpr (kBits == 6 || kBits == 3) {
    constexpr std::uint32_t kLow = kBits == 6 ? 4 : 2;
    std::uint8_t low[1024 + 8];
    for (std::uint32_t i = 0; i < n; ++i) low[i] = code[i] & ((1 << kLow) - 1);
    for (std::uint32_t i = 0; i < n; ++i) code[i] = static_cast<std::uint8_t>(code[i] >> kLow);
    pack_codes<kLow>(low, n, out);
    pack_codes<kBits - kLow>(code, n, out + packed_nbytes<kLow>(n));
  } else {
    const std::uint32_t m = packed_nbytes<kBits>(n);
    for (std::uint32_t i = n; i < m * (8 / kBits); ++i) code[i] = 0;
    if constexpr (kBits == 1) {
      for (std::uint32_t i = 0; i < m; ++i) out[i] = gather_bits(code + 8 * i);
    } else if constexpr (kBits == 2) {
      for (std::uint32_t i = 0; i < m; ++i)
        out[i] = static_cast<std::uint8_t>(code[i] | (code[i + m] << 2) | (code[i + 2 * m] << 4) | (code[i + 3 * m] << 6));
    } else {
      for (std::uint32_t i = 0; i < m; ++i) out[i] = static_cast<std::uint8_t>(code[i] | (code[i + m] << 4));
    }
  }
}

// in → use(i, code) for i < n, in runs that vectorise when `use` does.
template <std::uint32_t kBits, class Use>
SCRIMP_HD void unpack_codes(const std::uint8_t* in, std::uint32_t n, Use use) {
  if constexpr (kBits == 8) {
    for (std::uint32_t i = 0; i < n; ++i) use(i, in[i]);
  } else if constexpr (kBits == 6 || kBits == 3) {
    constexpr std::uint32_t kLow = kBits == 6 ? 4 : 2;
    std::uint8_t code[1024 + 8];
    unpack_codes<kLow>(in, n, [&](std::uint32_t i, std::uint32_t low) { code[i] = static_cast<std::uint8_t>(low); });
    unpack_codes<kBits - kLow>(in + packed_nbytes<kLow>(n), n,
                               [&](std::uint32_t i, std::uint32_t high) { use(i, code[i] | (high << kLow)); });
  } else if constexpr (kBits == 1) {
    std::uint8_t code[1024 + 8];
    for (std::uint32_t i = 0; i < (n + 7) / 8; ++i) scatter_bits(in[i], code + 8 * i);
    for (std::uint32_t i = 0; i < n; ++i) use(i, code[i]);
  } else {
    const std::uint32_t m = packed_nbytes<kBits>(n);
    for (std::uint32_t j = 0; j < 8 / kBits; ++j) {
      const std::uint32_t left = n > j * m ? n - j * m : 0, count = left < m ? left : m;
      for (std::uint32_t i = 0; i < count; ++i) use(i + j * m, (in[i] >> (kBits * j)) & ((1u << kBits) - 1));
    }
  }
}

}  // namespace
}  // namespace scrimp
