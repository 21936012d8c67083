// Products of float rows with decoded weights, and of one row with weights in their blocks. Compiled once per ISA: no std
// template, unnamed namespace.
#pragma once
#include "codecs/int4.h"
#include "codecs/int8.h"
#include "kernels/matmul_table.h"
#include "kernels/wide-inl.h"

namespace scrimp {
namespace {

using Floats = Wide<float>;
static_assert(Floats::kLanes == kMatmulLanes);

// Sums held in registers at once; no influence on the result.
constexpr std::size_t kTileRows = kNativeBytes == 64 ? 4 : kNativeBytes == 32 ? 2 : 1;
constexpr std::size_t kTileOutputs = kNativeBytes == 64 ? 4 : 2;
constexpr std::size_t kNarrowRows = kNativeBytes == 64 ? 8 : kNativeBytes == 32 ? 4 : 2;  // with one output
constexpr std::size_t kMatvecOutputs = kNativeBytes == 64 ? 8 : kNativeBytes == 32 ? 4 : 2;

// The first n < 16 values, zeros behind them.
SCRIMP_HD Floats load_some(const float* p, std::size_t n) {
#if defined(__AVX512F__)
  Floats v;
  v.part[0] = _mm512_maskz_loadu_ps(static_cast<__mmask16>((1u << n) - 1), p);
  return v;
#else
  float values[kMatmulLanes] = {};
  memcpy(values, p, n * sizeof(float));
  return Floats::load(values);
#endif
}

// z[p] = sum of the lanes of sum[p].
template <std::size_t kCount>
SCRIMP_HD void add_lanes(const Floats* sum, float* z) {
#pragma GCC unroll 16
  for (std::size_t p = 0; p < kCount; p += 2) sum_two(sum[p], sum[p + 1], z + p);
}

// Rows i … i + kRows − 1 (the last one stands in for absent ones) with outputs o … o + kOutputs − 1.
template <std::size_t kRows, std::size_t kOutputs>
inline void dot_tile(const DotRun& run, std::size_t i, std::size_t o) {
  const std::size_t n = run.n - i < kRows ? run.n - i : kRows;
  const float *x[kRows], *w[kOutputs];
  float* kept[kRows];
  for (std::size_t r = 0; r < kRows; ++r) {
    const std::size_t row = i + (r < n ? r : n - 1);
    x[r] = run.x + static_cast<std::ptrdiff_t>(row) * run.x_stride;
    kept[r] = run.sums + (row * run.k + o) * kMatmulLanes;
  }
  for (std::size_t c = 0; c < kOutputs; ++c) w[c] = run.w + (o + c) * run.w_stride;
  Floats sum[kRows * kOutputs];
#pragma GCC unroll 8
  for (std::size_t r = 0; r < kRows; ++r)
#pragma GCC unroll 4
    for (std::size_t c = 0; c < kOutputs; ++c)
      sum[r * kOutputs + c] = run.first ? Floats::zero() : Floats::load(kept[r] + c * kMatmulLanes);
  std::size_t j = 0;
  for (; j + kMatmulLanes <= run.d; j += kMatmulLanes) {
    Floats wj[kOutputs];
#pragma GCC unroll 4
    for (std::size_t c = 0; c < kOutputs; ++c) wj[c] = Floats::load(w[c] + j);
#pragma GCC unroll 8
    for (std::size_t r = 0; r < kRows; ++r) {
      const Floats xj = Floats::load(x[r] + j);
#pragma GCC unroll 4
      for (std::size_t c = 0; c < kOutputs; ++c) sum[r * kOutputs + c] = sum[r * kOutputs + c] + xj * wj[c];
    }
  }
  if (j < run.d) {
#pragma GCC unroll 8
    for (std::size_t r = 0; r < kRows; ++r) {
      const Floats xj = load_some(x[r] + j, run.d - j);
#pragma GCC unroll 4
      for (std::size_t c = 0; c < kOutputs; ++c)
        sum[r * kOutputs + c] = sum[r * kOutputs + c] + xj * load_some(w[c] + j, run.d - j);
    }
  }
  if (!run.last) {
#pragma GCC unroll 8
    for (std::size_t r = 0; r < kRows; ++r)
#pragma GCC unroll 4
      for (std::size_t c = 0; c < kOutputs; ++c) sum[r * kOutputs + c].store(kept[r] + c * kMatmulLanes);
    return;
  }
  float z[kRows * kOutputs];
  add_lanes<kRows * kOutputs>(sum, z);
  for (std::size_t r = 0; r < n; ++r)
    for (std::size_t c = 0; c < kOutputs; ++c)
      run.out[(i + r) * run.out_stride + o + c] = z[r * kOutputs + c] + run.bias[o + c];
}

void dot_rows_with_outputs(const DotRun& run) {
  std::size_t o = 0;
  for (; o + kTileOutputs <= run.k; o += kTileOutputs)
    for (std::size_t i = 0; i < run.n; i += kTileRows) dot_tile<kTileRows, kTileOutputs>(run, i, o);
  for (; o < run.k; ++o)
    for (std::size_t i = 0; i < run.n; i += kNarrowRows) dot_tile<kNarrowRows, 1>(run, i, o);
}

// --- one row ---------------------------------------------------------------------------------------------------------

template <int kBits>
constexpr std::size_t kBlockNbytes = 4 + kMatmulBlock * kBits / 8;

SCRIMP_HD float scale_of(const std::uint8_t* block) {
  float scale;
  memcpy(&scale, block, sizeof scale);
  return scale;
}

// sum += x[j]·(scale·code[j]) over a block, in the order of j.
SCRIMP_HD Floats add_codes(Floats sum, const std::int8_t* code, Floats scale, const float* x) {
#pragma GCC unroll 8
  for (std::size_t j = 0; j < kMatmulBlock; j += kMatmulLanes)
    sum = sum + Floats::load(x + j) * (Floats::load(code + j) * scale);
  return sum;
}

template <int kBits>
SCRIMP_HD Floats add_block(Floats sum, const std::uint8_t* block, const float* x) {
  const Floats scale = Floats::all(scale_of(block));
  if constexpr (kBits == 8) {
    return add_codes(sum, reinterpret_cast<const std::int8_t*>(block + 4), scale, x);
  } else {
    std::int8_t code[kMatmulBlock];
    unpack_codes<4>(block + 4, kMatmulBlock, [&](std::uint32_t i, std::uint32_t c) {
      code[i] = static_cast<std::int8_t>(static_cast<std::int32_t>(c) - Int4<kMatmulBlock>::kOffset);
    });
    return add_codes(sum, code, scale, x);
  }
}

#if defined(__AVX512F__)
// The same: the sixteen products scale·level lie in a register, and a code looks its own up.
template <>
SCRIMP_HD Floats add_block<4>(Floats sum, const std::uint8_t* block, const float* x) {
  const __m512 level = _mm512_setr_ps(-8, -7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7);
  const __m512 weight = _mm512_mul_ps(_mm512_set1_ps(scale_of(block)), level);
  __m512i pair[4];
#pragma GCC unroll 4
  for (int q = 0; q < 4; ++q)
    pair[q] = _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(block + 4 + 16 * q)));
  __m512 s = sum.part[0];
#pragma GCC unroll 4
  for (int q = 0; q < 4; ++q)
    s = _mm512_add_ps(s, _mm512_mul_ps(_mm512_loadu_ps(x + 16 * q), _mm512_permutexvar_ps(pair[q], weight)));
#pragma GCC unroll 4
  for (int q = 0; q < 4; ++q)
    s = _mm512_add_ps(s, _mm512_mul_ps(_mm512_loadu_ps(x + 64 + 16 * q),
                                       _mm512_permutexvar_ps(_mm512_srli_epi32(pair[q], 4), weight)));
  sum.part[0] = s;
  return sum;
}
#endif

template <int kBits>
void matvec(const MatvecRun& run) {
  const std::size_t row_nbytes = run.n_blocks * kBlockNbytes<kBits>;
  for (std::size_t o = 0; o < run.k; o += kMatvecOutputs) {
    const std::size_t n = run.k - o < kMatvecOutputs ? run.k - o : kMatvecOutputs;
    const std::uint8_t* w[kMatvecOutputs];
    Floats sum[kMatvecOutputs];
#pragma GCC unroll 8
    for (std::size_t c = 0; c < kMatvecOutputs; ++c) {
      w[c] = run.w + (o + (c < n ? c : n - 1)) * row_nbytes;
      sum[c] = Floats::zero();
    }
    const std::size_t group_nbytes = kMatvecOutputs * row_nbytes;
    for (std::size_t b = 0; b < run.n_blocks; ++b) {
      const std::size_t at = b * kBlockNbytes<kBits>;
#pragma GCC unroll 8
      for (std::size_t c = 0; c < kMatvecOutputs; ++c) {
        for (std::size_t line = 0; line < kBlockNbytes<kBits>; line += 64) __builtin_prefetch(w[c] + at + group_nbytes + line);
        sum[c] = add_block<kBits>(sum[c], w[c] + at, run.x + b * kMatmulBlock);
      }
    }
    float z[kMatvecOutputs];
    add_lanes<kMatvecOutputs>(sum, z);
    for (std::size_t c = 0; c < n; ++c) run.out[o + c] = z[c] + run.bias[o + c];
  }
}

}  // namespace
}  // namespace scrimp
