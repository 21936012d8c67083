#pragma once
// What one ISA offers for products with weights that stay in codec blocks: runs (arguments of one call) and function
// pointers. Included by the files compiled per ISA, so no std template may appear here.
#include <cstddef>
#include <cstdint>

namespace scrimp {

constexpr std::size_t kMatmulLanes = 16;     // of every float sum: lane j mod 16 first, then the lanes pairwise
constexpr std::size_t kMatmulRows = 64;      // rows of X that are worked on together
constexpr std::size_t kMatmulOutputs = 16;   // outputs whose weights are decoded together,
constexpr std::size_t kMatmulDepth = 512;    // so many values of each: 32 KB, which stay in the first cache
constexpr std::size_t kMatmulBlock = 128;    // values that share a scale where the fast loops apply

// sums[r][o][lane] += x[r][j]·w[o][j], j < d; decoded weights.
struct DotRun {
  const float* x;
  std::ptrdiff_t x_stride;  // in floats
  std::size_t n, d;
  const float* w;
  std::size_t w_stride, k;
  float* sums;        // [n][k][kMatmulLanes]
  bool first, last;   // first: sums begin at 0; last: the lanes are added up and go to `out`, not to `sums`
  const float* bias;  // [k]
  float* out;         // [n][k]
  std::size_t out_stride;
};

// out[o] = Σ_j x[j]·w[o][j] + bias[o] for one row x, straight from whole blocks.
struct MatvecRun {
  const std::uint8_t* w;  // [k][n_blocks] blocks
  std::size_t n_blocks, k;
  const float* x;         // [n_blocks·kMatmulBlock]
  const float* bias;
  float* out;
};

// Rows as int8 codes: those of the codec int8 for a block as long as the row.
struct RoundRun {
  const float* x;
  std::ptrdiff_t stride;
  std::size_t n, d;
  int bits;                   // of the weights that the rows will meet
  std::int8_t* codes;         // [n][code_stride], zeros behind the row
  std::size_t code_stride;
  std::int32_t* corrections;  // [n][⌈d/128⌉][16]: what the integer sums begin with
  float* scale;               // [n]; NaN for a row that holds NaN or infinity
};

// The same product from codes of rows: per block Σ of code products in 16 integer lanes (lane j/4 mod 16), times the
// block's scale; sums of these as above; times the row's scale.
struct CodeMatmulRun {
  const std::uint8_t* w;  // [k][n_blocks] blocks
  std::size_t n_blocks, k;
  const std::int8_t* codes;
  std::size_t code_stride;
  const std::int32_t* corrections;
  const float* scale;
  std::size_t n;
  const float* bias;
  float* out;
  std::size_t out_stride;
};

// A stretch of at most 128 weights of one output under one scale: sums[r][lane] += scale·(integer lanes of row r).
struct PieceRun {
  const std::int8_t* w;  // [128], zeros behind the stretch
  float scale;
  const std::int8_t* codes;  // of the rows, from the stretch's first value on
  std::size_t code_stride, n;
  float* sums;               // [n][kMatmulLanes]
};

struct MatmulKernels {
  void (*dot)(const DotRun&);
  void (*matvec_int8)(const MatvecRun&);
  void (*matvec_int4)(const MatvecRun&);
  void (*round_rows)(const RoundRun&);
  void (*code_matmul_int8)(const CodeMatmulRun&);
  void (*code_matmul_int4)(const CodeMatmulRun&);
  void (*add_piece)(const PieceRun&);
};

}  // namespace scrimp
