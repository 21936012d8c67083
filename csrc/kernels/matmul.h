#pragma once
// Y = X·Wᵀ + b with the weights left in the blocks of their codec: decoded a few kilobytes at a time, or multiplied as they
// are. Each result is one sum in a fixed order, whatever rows, outputs and threads surround it.
#include "kernels/codec.h"
#include "kernels/rows.h"

namespace scrimp {

// int8 and int4 weights can meet rows that are rounded to int8.
bool multiplies_codes(const Codec& codec);

struct MatmulArgs {
  MatrixView x;                    // [n][d] of floats, or codes with scale and offset
  const double* scale = nullptr;   // [d]: x = offset + scale·code, or for floats scale·x in fp32
  const double* offset = nullptr;  // [d], for codes
  const Codec* codec = nullptr;
  const std::uint8_t* w = nullptr; // payload of [k][d] in C order
  std::size_t k = 0;
  const float* bias = nullptr;     // [k]
  bool round_rows = false;         // rows become int8 codes; multiplies_codes(codec) must hold
  int threads = 0;
};

// out [n][k].
void matmul(const MatmulArgs& args, float* out);

}  // namespace scrimp
