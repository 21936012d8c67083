#pragma once
// Counter-based random numbers: a pure function of (seed, step, index), so that any chunk of any array can be rounded by
// any thread on any device with the same result. Shared by CPU and CUDA.
#include <cstdint>

#include "core/hd.h"

namespace scrimp {
namespace {

// Finalizer of SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014).
SCRIMP_HD std::uint64_t mix64(std::uint64_t z) {
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
  return z ^ (z >> 31);
}

SCRIMP_HD std::uint64_t rng_key(std::uint64_t seed, std::uint64_t step) {
  return mix64(mix64(seed + 0x9e3779b97f4a7c15ull) ^ (step * 0xd1342543de82ef95ull + 0x2545f4914f6cdd1dull));
}

constexpr std::uint32_t kFirstFactor = 0x85ebca6bu, kLastFactor = 0xc2b2ae35u;

// The parts of random32 up to its first product and after it.
SCRIMP_HD std::uint32_t random32_start(std::uint64_t key, std::uint32_t counter) {
  const std::uint32_t h = counter ^ static_cast<std::uint32_t>(key);
  return h ^ (h >> 16);
}

SCRIMP_HD std::uint32_t random32_end(std::uint32_t upper_key, std::uint32_t product) {
  const std::uint32_t h = ((product ^ (product >> 13)) + upper_key) * kLastFactor;
  return h ^ (h >> 16);
}

// 32 random bits of one counter; the two halves of the key enter at two places (finalizer of MurmurHash3).
SCRIMP_HD std::uint32_t random32(std::uint64_t key, std::uint32_t counter) {
  return random32_end(static_cast<std::uint32_t>(key >> 32), random32_start(key, counter) * kFirstFactor);
}

// 16 random bits of one absolute index. Indices i and i+16 of an aligned group of 32 share one 32-bit draw: one hash
// serves two values and sixteen neighbours fill a vector register.
SCRIMP_HD std::uint32_t random16(std::uint64_t key, std::uint64_t index) {
  const std::uint64_t counter = (index >> 5) * 16 + (index & 15);
  const std::uint64_t page = counter >> 32;
  const std::uint32_t bits = random32(page ? mix64(key ^ page) : key, static_cast<std::uint32_t>(counter));
  return (index & 16) ? bits >> 16 : bits & 0xffffu;
}

// out[i] = random16(key, index + i), i < n: sixteen draws at a time where groups of 32 are aligned.
SCRIMP_HD void random16_run(std::uint64_t key, std::uint64_t index, std::uint32_t n, std::uint16_t* out) {
  std::uint32_t i = 0;
  if (index % 32 == 0)
    for (; i + 32 <= n; i += 32) {
      const std::uint64_t counter = (index + i) / 2, page = counter >> 32;
      const std::uint64_t paged = page ? mix64(key ^ page) : key;
      for (std::uint32_t j = 0; j < 16; ++j) {
        const std::uint32_t bits = random32(paged, static_cast<std::uint32_t>(counter) + j);
        out[i + j] = static_cast<std::uint16_t>(bits);
        out[i + 16 + j] = static_cast<std::uint16_t>(bits >> 16);
      }
    }
  for (; i < n; ++i) out[i] = static_cast<std::uint16_t>(random16(key, index + i));
}

}  // namespace
}  // namespace scrimp
