#pragma once
// Symmetric uniform codes of a block: x ≈ scale·code with code in -levels…levels. Scale by the largest magnitude or by
// search, rounding to nearest or stochastic. int8…int2 are stamped from IntBlock below.
#include "codecs/float_bits.h"
#include "codecs/options.h"
#include "codecs/packing.h"
#include "core/rng.h"

namespace scrimp {
namespace {

constexpr float kTinyAbsmax = 0x1p-90f;             // below it 127·2¹⁶/absmax would overflow: the block is lifted first
constexpr float kLift = 0x1p100f, kDrop = 0x1p-100f;
constexpr float kLargestAbsmax = 0x1.fffff8p127f;   // above it levels·scale might round to infinity

SCRIMP_HD float uniform_scale(float absmax, std::int32_t levels) {
  return (absmax > kLargestAbsmax ? kLargestAbsmax : absmax) / static_cast<float>(levels);
}

// Upper bound of |x - decoded|: `steps` of a step, the rounding of scale, product and inverse (a few 2⁻²⁴ of absmax), and
// of a scale that is denormal.
SCRIMP_HD double uniform_bound(float absmax, double levels, double steps) {
  return absmax > 0 ? absmax * (steps / levels + 0x1p-21) + 0x1p-142 : 0.0;
}

// codes[i] = offset + round(x[i]/scale), half to even, with the product x·(1/scale) as torch forms it. At the absmax scale
// no code leaves -levels…levels; at a searched one it must be clamped.
SCRIMP_HD void round_nearest(const float* x, std::uint32_t n, float scale, std::int32_t offset, std::uint8_t* codes) {
  const float inverse = scale > 0 ? 1.0f / scale : 0.0f;
  for (std::uint32_t i = 0; i < n; ++i)
    codes[i] = static_cast<std::uint8_t>(static_cast<std::int32_t>(rintf(x[i] * inverse)) + offset);
}

SCRIMP_HD void round_clamped(const float* x, std::uint32_t n, float scale, std::int32_t levels, std::int32_t offset,
                             std::uint8_t* codes) {
  const float inverse = 1.0f / scale;
  for (std::uint32_t i = 0; i < n; ++i) {
    const std::int32_t code = static_cast<std::int32_t>(rintf(x[i] * inverse));
    const std::int32_t low = code < -levels ? -levels : code;
    codes[i] = static_cast<std::uint8_t>((low > levels ? levels : low) + offset);
  }
}

// The fixed-point rule (round(x·inv·2¹⁶) + rand16) >> 16, unbiased to 2⁻¹⁷ of a step.
SCRIMP_HD void round_stochastic(const BlockValues& v, const float* x, float scale, std::int32_t levels, std::int32_t offset,
                                std::uint8_t* codes) {
  std::uint16_t random[1024];
  random16_run(v.key, v.index, v.n, random);
  const float inverse = scale > 0 ? 1.0f / scale * 65536.0f : 0.0f;
  for (std::uint32_t i = 0; i < v.n; ++i) {
    const std::int32_t code = (static_cast<std::int32_t>(rintf(x[i] * inverse)) + random[i]) >> 16;
    const std::int32_t low = code < -levels ? -levels : code;
    codes[i] = static_cast<std::uint8_t>((low > levels ? levels : low) + offset);
  }
}

// Sum of squared errors of nearest rounding at a scale, in units of the largest scale: never out of range.
SCRIMP_HD float squared_error(const float* x, std::uint32_t n, float scale, float unit, std::int32_t levels) {
  const float inverse = 1.0f / scale, top = static_cast<float>(levels);
  return lane_sum(n, [&](std::uint32_t i) {
    float code = rintf(x[i] * inverse);
    code = code > top ? top : code;
    code = code < -top ? -top : code;
    const float error = (x[i] - code * scale) * unit;
    return error * error;
  });
}

// The best of 16 scales between `widest` and about half of it (a third where there are few levels). The widest comes first
// and wins a tie, so a block that it represents exactly stays exact.
SCRIMP_HD float search_scale(const float* x, std::uint32_t n, float widest, std::int32_t levels) {
  const float unit = 1.0f / widest, shrink = levels <= 3 ? 3.0f / 64 : 1.0f / 32;
  float best = widest, least = squared_error(x, n, widest, unit, levels);
  for (std::int32_t c = 1; c < 16; ++c) {
    const float scale = widest * (1.0f - shrink * static_cast<float>(c));
    const float error = squared_error(x, n, scale, unit, levels);
    best = error < least ? scale : best;
    least = error < least ? error : least;
  }
  return best;
}

// intN: an fp32 scale and n packed codes; code + 2^(N-1) is stored, but for int8, which is stored signed.
template <std::uint32_t kBits, std::uint32_t kBlockSize>
struct IntBlock {
  static constexpr const char* kVariantKey = "block";
  static constexpr std::uint32_t kBlock = kBlockSize;
  static constexpr std::uint32_t kLargestBits = kInfBits - 1;
  static constexpr std::uint32_t kChoices = kRoundingChoice | kScaleChoice;
  static constexpr std::int32_t kLevels = (1 << (kBits - 1)) - 1;
  static constexpr std::int32_t kOffset = kBits == 8 ? 0 : 1 << (kBits - 1);
  struct __attribute__((packed)) Block {
    float scale;
    std::uint8_t code[packed_nbytes<kBits>(kBlock)];
  };

  static constexpr std::uint32_t nbytes(std::uint32_t n, const CodecOptions&) { return 4 + packed_nbytes<kBits>(n); }

  // ‖x - decoded‖² ≤ 0.8‖x‖² (3 bits and up). Stochastic rounding needs 4 bits, int2 the searched scale: with absmax it
  // may drop 97 % of the energy.
  static SCRIMP_HD bool contractive(const CodecOptions& o) {
    if (o.rounding == Rounding::kStochastic) return kBits >= 4;
    return kBits >= 3 || o.scale == ScaleRule::kMse;
  }

  template <bool kStochastic>
  static SCRIMP_HD void encode(const BlockValues& v, Block& b) {
    float lifted[kBlock];
    const bool tiny = v.absmax < kTinyAbsmax;
    const float* x = v.x;
    if (__builtin_expect(tiny, 0)) {
      for (std::uint32_t i = 0; i < v.n; ++i) lifted[i] = v.x[i] * kLift;
      x = lifted;
    }
    float scale = uniform_scale(tiny ? v.absmax * kLift : v.absmax, kLevels);
    const bool search = v.options.scale == ScaleRule::kMse && scale > 0;
    if (search) scale = search_scale(x, v.n, scale, kLevels);
    std::uint8_t code[kBlock + 8];
    if constexpr (kStochastic) {
      round_stochastic(v, x, scale, kLevels, kOffset, code);
    } else if (search) {
      round_clamped(x, v.n, scale, kLevels, kOffset, code);
    } else {
      round_nearest(x, v.n, scale, kOffset, code);
    }
    b.scale = tiny ? scale * kDrop : scale;
    pack_codes<kBits>(code, v.n, b.code);
  }

  static SCRIMP_HD void decode(const Block& b, std::uint32_t n, const CodecOptions&, float* y) {
    const float scale = b.scale;
    unpack_codes<kBits>(b.code, n, [&](std::uint32_t i, std::uint32_t code) {
      const std::int32_t level = kBits == 8 ? static_cast<std::int8_t>(code) : static_cast<std::int32_t>(code) - kOffset;
      y[i] = scale * static_cast<float>(level);
    });
  }

  static SCRIMP_HD double bound(float absmax, const CodecOptions& o) {
    const double steps = o.rounding == Rounding::kStochastic ? 1.0 : 0.5;
    return uniform_bound(absmax, o.scale == ScaleRule::kMse ? 1 : kLevels, o.scale == ScaleRule::kMse ? 1 : steps);
  }

  static SCRIMP_HD void poison(std::uint32_t, Block& b) {
    memset(&b, 0, sizeof b);
    b.scale = bits_float(kNanBits);
  }
};

}  // namespace
}  // namespace scrimp
