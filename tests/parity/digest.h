#pragma once
// What the digests are made of. No test framework, so that it cross-compiles.
#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/rng.h"

class Digest {  // FNV-1a, 64 bits
 public:
  void add(const void* data, std::size_t nbytes) {
    for (std::size_t i = 0; i < nbytes; ++i)
      value_ = (value_ ^ static_cast<const unsigned char*>(data)[i]) * 0x100000001b3ull;
  }
  unsigned long long value() const { return value_; }

 private:
  std::uint64_t value_ = 0xcbf29ce484222325ull;
};

std::vector<float> values(std::size_t n);  // bell-shaped, with stretches of denormals, zeros, constants and outliers

void print_linear_digests();
