#pragma once
// topk:ratio=R: of a block of 1024 values the k = ⌈R·n⌉ of largest magnitude (the earlier of equals) as they are, their
// indices first; the others decode to 0. Index 65535 in the first place: the whole block is NaN.
#include "codecs/float_bits.h"
#include "codecs/options.h"

namespace scrimp {
namespace {

struct TopK {
  static constexpr const char* kName = "topk";
  static constexpr const char* kVariantKey = nullptr;
  static constexpr std::uint32_t kBlock = 1024;
  static constexpr std::uint32_t kLargestBits = kInfBits - 1;
  static constexpr std::uint32_t kChoices = kRatioChoice;
  static constexpr std::uint16_t kAllNan = 0xffff;
  struct __attribute__((packed)) Block {
    std::uint8_t bytes[6 * kBlock];  // k indices of 2 bytes, k values of 4
  };

  static SCRIMP_HD std::uint32_t kept(std::uint32_t n, const CodecOptions& o) {
    const double exact = static_cast<double>(o.ratio) * n;
    const std::uint32_t k = static_cast<std::uint32_t>(exact) + (exact > static_cast<std::uint32_t>(exact));
    return k < 1 ? 1 : k > n ? n : k;
  }
  static SCRIMP_HD std::uint32_t nbytes(std::uint32_t n, const CodecOptions& o) { return 6 * kept(n, o); }
  static SCRIMP_HD bool contractive(const CodecOptions&) { return true; }  // ‖x - decoded‖² ≤ (1 - k/n)‖x‖²

  // A magnitude that exactly k of n reach, or else, where there are equals, the k-th largest: bisection over the bits, which
  // mostly ends once k are told apart.
  static SCRIMP_HD std::uint32_t threshold(const std::uint32_t* magnitude, std::uint32_t n, std::uint32_t k,
                                           std::uint32_t top) {
    std::uint32_t found = 0;
    for (std::uint32_t bit = 1u << 30; bit; bit >>= 1) {
      if ((found | bit) > top) continue;
      std::uint32_t count = 0;
      for (std::uint32_t i = 0; i < n; ++i) count += magnitude[i] >= (found | bit) ? 1 : 0;
      if (count >= k) found |= bit;
      if (count == k) break;
    }
    return found;
  }

  template <bool>
  static SCRIMP_HD void encode(const BlockValues& v, Block& b) {
    constexpr std::uint32_t kRun = 16;  // runs without a value to keep are passed over
    const std::uint32_t k = kept(v.n, v.options);
    std::uint32_t magnitude[kBlock + kRun], above = 0;
    for (std::uint32_t i = 0; i < v.n; ++i) magnitude[i] = magnitude_bits(v.x[i]);
    const std::uint32_t least = threshold(magnitude, v.n, k, float_bits(v.absmax));
    for (std::uint32_t i = 0; i < v.n; ++i) above += magnitude[i] > least ? 1 : 0;
    std::uint32_t equals = k - above;
    for (std::uint32_t j = 0; j < kRun; ++j) magnitude[v.n + j] = 0;
    for (std::uint32_t run = 0, at = 0; at < k; run += kRun) {
      std::uint32_t top = 0;
      for (std::uint32_t j = 0; j < kRun; ++j) top = magnitude[run + j] > top ? magnitude[run + j] : top;
      if (top < least) continue;
      for (std::uint32_t i = run; i < run + kRun && at < k; ++i) {
        if (magnitude[i] < least || (magnitude[i] == least && equals == 0)) continue;
        equals -= magnitude[i] == least;
        const std::uint16_t index = static_cast<std::uint16_t>(i);
        memcpy(b.bytes + 2 * at, &index, 2);
        memcpy(b.bytes + 2 * k + 4 * at, &v.x[i], 4);
        ++at;
      }
    }
  }

  // Indices that no encoder writes, n and above, are passed over.
  static SCRIMP_HD void decode(const Block& b, std::uint32_t n, const CodecOptions& o, float* y) {
    const std::uint32_t k = kept(n, o);
    std::uint16_t index;
    memcpy(&index, b.bytes, 2);
    const float rest = index == kAllNan ? bits_float(kNanBits) : 0.0f;
    for (std::uint32_t i = 0; i < n; ++i) y[i] = rest;
    for (std::uint32_t j = 0; j < k && index != kAllNan; ++j) {
      memcpy(&index, b.bytes + 2 * j, 2);
      if (index < n) memcpy(&y[index], b.bytes + 2 * k + 4 * j, 4);
    }
  }

  static SCRIMP_HD double bound(float absmax, const CodecOptions&) { return absmax; }

  static SCRIMP_HD void poison(std::uint32_t, Block& b) {
    const std::uint16_t mark = kAllNan;
    memcpy(b.bytes, &mark, 2);
  }
};

}  // namespace
}  // namespace scrimp
