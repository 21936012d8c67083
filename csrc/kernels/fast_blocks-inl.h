#pragma once
// Faster ways to do what the codecs' headers define: encode a group of full blocks, whose scales are found together, and
// decode one full block. A codec without an entry here runs as its header says; tests/cpp/test_kernels.cpp holds every
// entry to the header, byte for byte.
#include "codecs/list.h"
#include "kernels/leaf-inl.h"
#include "kernels/stream-inl.h"

namespace scrimp {
namespace {

// What a group of kGroup full blocks is encoded from.
struct GroupValues {
  const float* x;
  const std::uint32_t* top;  // [kGroup] bits of the largest magnitudes
  const CodecOptions& options;
  std::uint64_t key, index;
};

// encode writes kGroup blocks, or returns false: then the header's way is taken. decode reads one full block.
template <class C>
struct FastBlocks {
  static constexpr bool kEncodes = false, kDecodes = false;
};

template <class C>
struct FastUniform {
  static constexpr bool kEncodes = true;

  template <bool kStochastic>
  static inline bool encode(const GroupValues& v, typename C::Block* b) {
    if (v.options.scale == ScaleRule::kMse || (kStochastic && v.index % 32)) return false;
    constexpr float kUnit = kStochastic ? 65536.0f : 1.0f;
    alignas(64) float scale[kGroup], inverse[kGroup];
    if (!leaf::scale_blocks(v.top, C::kLevels, kUnit, kTinyAbsmax, kLargestAbsmax, scale, inverse)) return false;
    for (std::uint32_t k = 0; k < kGroup; ++k) {
      prefetch_ahead<C::kBlock>(v.x + k * C::kBlock);
      b[k].scale = scale[k];
      FastBlocks<C>::template write<kStochastic>(v.x + k * C::kBlock, inverse[k], v.key, v.index + k * C::kBlock, b[k].code);
    }
    return true;
  }

  template <bool kStochastic>
  static inline void codes32(const float* x, float inverse, std::uint64_t key, std::uint64_t index, std::int8_t* codes) {
    if constexpr (kStochastic)
      leaf::codes32_stochastic(x, inverse, C::kLevels * 65536.0f, key, index, codes);
    else
      leaf::codes32(x, inverse, codes);
  }
};

template <std::uint32_t kBlock>
struct FastBlocks<Int8<kBlock>> : FastUniform<Int8<kBlock>> {
  static constexpr bool kDecodes = false;

  template <bool kStochastic>
  static inline void write(const float* x, float inverse, std::uint64_t key, std::uint64_t index, std::uint8_t* code) {
    for (std::uint32_t i = 0; i < kBlock; i += 32)
      FastUniform<Int8<kBlock>>::template codes32<kStochastic>(x + i, inverse, key, index + i,
                                                               reinterpret_cast<std::int8_t*>(code + i));
  }
};

template <std::uint32_t kBlock>
  requires(kBlock >= 64)
struct FastBlocks<Int4<kBlock>> : FastUniform<Int4<kBlock>> {
  static constexpr bool kDecodes = true;

  template <bool kStochastic>
  static inline void write(const float* x, float inverse, std::uint64_t key, std::uint64_t index, std::uint8_t* code) {
    constexpr std::uint32_t kHalf = kBlock / 2;
    for (std::uint32_t i = 0; i < kHalf; i += 32) {
      std::int8_t low[32], high[32];
      FastUniform<Int4<kBlock>>::template codes32<kStochastic>(x + i, inverse, key, index + i, low);
      FastUniform<Int4<kBlock>>::template codes32<kStochastic>(x + i + kHalf, inverse, key, index + i + kHalf, high);
      leaf::join_nibbles32(low, high, code + i);
    }
  }

  static inline void decode(const typename Int4<kBlock>::Block& b, const CodecOptions&, float* y) {
    alignas(64) float value[16];
    for (int k = 0; k < 16; ++k) value[k] = b.scale * static_cast<float>(k - 8);
    for (std::uint32_t i = 0; i < kBlock / 2; i += 16) leaf::look_up_nibbles16(b.code + i, value, y + i, y + i + kBlock / 2);
  }
};

template <std::uint32_t kBlock>
struct FastBlocks<Sign<kBlock>> {
  static constexpr bool kEncodes = true, kDecodes = true;

  template <bool>
  static inline bool encode(const GroupValues& v, typename Sign<kBlock>::Block* b) {
    bool small = true;
    for (std::uint32_t k = 0; k < kGroup; ++k) small &= v.top[k] <= float_bits(0x1p100f);
    if (!small) return false;
    alignas(64) float sum[kGroup];
    leaf::abs_sum_of_blocks<kBlock>(v.x, sum);
    for (std::uint32_t k = 0; k < kGroup; ++k) {
      prefetch_ahead<kBlock>(v.x + k * kBlock);
      b[k].scale = sum[k] / static_cast<float>(kBlock);
      for (std::uint32_t i = 0; i < kBlock; i += 32) leaf::negative_bits32(v.x + k * kBlock + i, b[k].bits + i / 8);
    }
    return true;
  }

  static inline void decode(const typename Sign<kBlock>::Block& b, const CodecOptions&, float* y) {
    for (std::uint32_t i = 0; i < kBlock; i += 32) leaf::signed32(b.bits + i / 8, b.scale, y + i);
  }
};

}  // namespace
}  // namespace scrimp
