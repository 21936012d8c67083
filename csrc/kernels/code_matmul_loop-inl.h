// Products of rows rounded to int8 with weights in int8 or int4: exact integer sums of a block in 16 lanes, lane l of them
// over the values j with j/4 mod 16 = l, as dot-product instructions leave them. Compiled once per ISA: no std template,
// unnamed namespace.
#pragma once
#include "kernels/matmul_loop-inl.h"

#include "kernels/leaf-inl.h"
#if defined(__ARM_NEON)
#include <arm_neon.h>
#endif

namespace scrimp {
namespace {

typedef std::int8_t NativeBytes __attribute__((vector_size(kNativeBytes)));
typedef std::int32_t NativeInts __attribute__((vector_size(kNativeBytes)));
constexpr int kParts = 64 / kNativeBytes;

struct Bytes {  // 64 codes
  NativeBytes part[kParts];
};
struct Ints {  // 16 sums
  NativeInts part[kParts];
};

// Register by register: as one, gcc copies two of 32 bytes to the stack in pieces of 16, which their loads then wait for.
template <class V>
SCRIMP_HD V load_as(const void* p) {
  V v;
  for (int part = 0; part < kParts; ++part)
    memcpy(&v.part[part], static_cast<const std::uint8_t*>(p) + part * kNativeBytes, kNativeBytes);
  return v;
}

// Weights are handed to multiply_add less this: int4 codes as they are stored, 0…15; int8 codes as VNNI wants them, with
// 128 added. The sums begin with −bias·Σ x.
#if defined(__AVX512VNNI__)
template <int kBits>
constexpr std::int32_t kWeightBias = kBits == 8 ? 128 : 8;
#else
template <int kBits>
constexpr std::int32_t kWeightBias = kBits == 8 ? 0 : 8;
#endif

// Lane l of the definition: Σ w·x over its four values. What the functions below must equal.
SCRIMP_HD NativeInts multiply_add_plain(NativeInts sum, NativeBytes w, NativeBytes x) {
  std::int8_t a[kNativeBytes], b[kNativeBytes];
  memcpy(a, &w, sizeof a);
  memcpy(b, &x, sizeof b);
  for (int l = 0; l < kNativeBytes / 4; ++l)
    for (int t = 0; t < 4; ++t) sum[l] += a[4 * l + t] * b[4 * l + t];
  return sum;
}

// maddubs adds two products of an unsigned and a signed byte in 16 bits: 15·127·2 and 128·127·2 fit. Signed weights go in
// as |w|, with their sign on x, whose codes are −127…127.
#if defined(__AVX512VNNI__)
template <int kBits>
SCRIMP_HD NativeInts multiply_add(NativeInts sum, NativeBytes w, NativeBytes x) {
  return (NativeInts)_mm512_dpbusd_epi32((__m512i)sum, (__m512i)w, (__m512i)x);
}
#elif defined(__AVX512BW__)
template <int kBits>
SCRIMP_HD NativeInts multiply_add(NativeInts sum, NativeBytes w, NativeBytes x) {
  __m512i a = (__m512i)w, b = (__m512i)x;
  if constexpr (kBits == 8) {
    b = _mm512_mask_sub_epi8(b, _mm512_movepi8_mask(a), _mm512_setzero_si512(), b);
    a = _mm512_abs_epi8(a);
  }
  return sum + (NativeInts)_mm512_madd_epi16(_mm512_maddubs_epi16(a, b), _mm512_set1_epi16(1));
}
#elif defined(__AVX2__)
template <int kBits>
SCRIMP_HD NativeInts multiply_add(NativeInts sum, NativeBytes w, NativeBytes x) {
  __m256i a = (__m256i)w, b = (__m256i)x;
  if constexpr (kBits == 8) {
    b = _mm256_sign_epi8(b, a);
    a = _mm256_abs_epi8(a);
  }
  return sum + (NativeInts)_mm256_madd_epi16(_mm256_maddubs_epi16(a, b), _mm256_set1_epi16(1));
}
#elif defined(__SSSE3__)
template <int kBits>
SCRIMP_HD NativeInts multiply_add(NativeInts sum, NativeBytes w, NativeBytes x) {
  __m128i a = (__m128i)w, b = (__m128i)x;
  if constexpr (kBits == 8) {
    b = _mm_sign_epi8(b, a);
    a = _mm_abs_epi8(a);
  }
  return sum + (NativeInts)_mm_madd_epi16(_mm_maddubs_epi16(a, b), _mm_set1_epi16(1));
}
#elif defined(__ARM_NEON)
template <int kBits>
SCRIMP_HD NativeInts multiply_add(NativeInts sum, NativeBytes w, NativeBytes x) {
  const int8x16_t a = (int8x16_t)w, b = (int8x16_t)x;
  const int16x8_t low = vmull_s8(vget_low_s8(a), vget_low_s8(b)), high = vmull_high_s8(a, b);
  return sum + (NativeInts)vpaddq_s32(vpaddlq_s16(low), vpaddlq_s16(high));
}
#else
template <int kBits>
SCRIMP_HD NativeInts multiply_add(NativeInts sum, NativeBytes w, NativeBytes x) {
  return multiply_add_plain(sum, w, x);
}
#endif

template <int kBits>
SCRIMP_HD Ints add_products(Ints sum, const Bytes& w, const Bytes& x) {
  for (int p = 0; p < kParts; ++p) sum.part[p] = multiply_add<kBits>(sum.part[p], w.part[p], x.part[p]);
  return sum;
}

// What 128 codes of a row give with a block's codes, from `begin` on.
template <int kBits>
SCRIMP_HD Ints add_products(Ints begin, const Bytes& low, const Bytes& high, const std::int8_t* x) {
  return add_products<kBits>(add_products<kBits>(begin, low, load_as<Bytes>(x)), high, load_as<Bytes>(x + 64));
}

SCRIMP_HD Floats to_floats(const Ints& v) {
  Floats f;
  for (int p = 0; p < kParts; ++p) f.part[p] = __builtin_convertvector(v.part[p], Native<float>);
  return f;
}

// 64 int8 codes as multiply_add<8> takes them.
SCRIMP_HD Bytes biased(Bytes v) {
  if constexpr (kWeightBias<8> == 128)
    for (int p = 0; p < kParts; ++p) v.part[p] ^= NativeBytes{} + static_cast<std::int8_t>(-128);
  return v;
}

// The 128 codes of a block, as multiply_add takes them.
template <int kBits>
SCRIMP_HD void load_codes(const std::uint8_t* block, Bytes& low, Bytes& high) {
  const auto* code = reinterpret_cast<const std::int8_t*>(block + 4);
  if constexpr (kBits == 8) {
    low = biased(load_as<Bytes>(code));
    high = biased(load_as<Bytes>(code + 64));
  } else {
    const Bytes pairs = load_as<Bytes>(code);
    for (int p = 0; p < kParts; ++p) {
      low.part[p] = pairs.part[p] & 15;
      const NativeInts shifted = (NativeInts)pairs.part[p] >> 4;
      high.part[p] = (NativeBytes)shifted & 15;
    }
  }
}

template <int kBits, std::size_t kRows, std::size_t kOutputs>
inline void code_tile(const CodeMatmulRun& run, std::size_t i, std::size_t o) {
  const std::size_t n = run.n - i < kRows ? run.n - i : kRows;
  const std::size_t row_nbytes = run.n_blocks * kBlockNbytes<kBits>;
  const std::int8_t* x[kRows];
  const std::int32_t* begin[kRows];
  const std::uint8_t* w[kOutputs];
  for (std::size_t r = 0; r < kRows; ++r) {
    const std::size_t row = i + (r < n ? r : n - 1);
    x[r] = run.codes + row * run.code_stride;
    begin[r] = run.corrections + row * run.n_blocks * kMatmulLanes;
  }
  for (std::size_t c = 0; c < kOutputs; ++c) w[c] = run.w + (o + c) * row_nbytes;
  Floats sum[kRows * kOutputs];
#pragma GCC unroll 16
  for (std::size_t p = 0; p < kRows * kOutputs; ++p) sum[p] = Floats::zero();
  for (std::size_t b = 0; b < run.n_blocks; ++b) {
#pragma GCC unroll 8
    for (std::size_t c = 0; c < kOutputs; ++c) {
      const std::uint8_t* block = w[c] + b * kBlockNbytes<kBits>;
      Bytes low, high;
      load_codes<kBits>(block, low, high);
      const Floats scale = Floats::all(scale_of(block));
#pragma GCC unroll 8
      for (std::size_t r = 0; r < kRows; ++r) {
        const Ints lanes = add_products<kBits>(load_as<Ints>(begin[r] + b * kMatmulLanes), low, high, x[r] + b * kMatmulBlock);
        sum[r * kOutputs + c] = sum[r * kOutputs + c] + to_floats(lanes) * scale;
      }
    }
  }
  float z[kRows * kOutputs];
  add_lanes<kRows * kOutputs>(sum, z);
  for (std::size_t r = 0; r < n; ++r)
    for (std::size_t c = 0; c < kOutputs; ++c)
      run.out[(i + r) * run.out_stride + o + c] = z[r * kOutputs + c] * run.scale[i + r] + run.bias[o + c];
}

// One row: its codes stay in registers while they meet the block of each output.
template <int kBits>
inline void code_row(const CodeMatmulRun& run, std::size_t o, std::size_t n_outputs) {
  constexpr std::size_t kOutputs = kMatvecOutputs;
  const std::size_t row_nbytes = run.n_blocks * kBlockNbytes<kBits>;
  const std::uint8_t* w[kOutputs];
  Floats sum[kOutputs];
#pragma GCC unroll 8
  for (std::size_t c = 0; c < kOutputs; ++c) {
    w[c] = run.w + (o + (c < n_outputs ? c : n_outputs - 1)) * row_nbytes;
    sum[c] = Floats::zero();
  }
  for (std::size_t b = 0; b < run.n_blocks; ++b) {
    const Bytes first = load_as<Bytes>(run.codes + b * kMatmulBlock), second = load_as<Bytes>(run.codes + b * kMatmulBlock + 64);
    const Ints begin = load_as<Ints>(run.corrections + b * kMatmulLanes);
#pragma GCC unroll 8
    for (std::size_t c = 0; c < kOutputs; ++c) {
      const std::uint8_t* block = w[c] + b * kBlockNbytes<kBits>;
      Bytes low, high;
      load_codes<kBits>(block, low, high);
      const Ints lanes = add_products<kBits>(add_products<kBits>(begin, low, first), high, second);
      sum[c] = sum[c] + to_floats(lanes) * Floats::all(scale_of(block));
    }
  }
  float z[kOutputs];
  add_lanes<kOutputs>(sum, z);
  for (std::size_t c = 0; c < n_outputs; ++c) run.out[o + c] = z[c] * run.scale[0] + run.bias[o + c];
}

template <int kBits>
void code_matmul(const CodeMatmulRun& run) {
  constexpr std::size_t kOutputs = kTileOutputs, kAlone = kMatvecOutputs;
  if (run.n == 1) {
    for (std::size_t o = 0; o < run.k; o += kAlone) code_row<kBits>(run, o, run.k - o < kAlone ? run.k - o : kAlone);
    return;
  }
  std::size_t o = 0;
  for (; o + kOutputs <= run.k; o += kOutputs)
    for (std::size_t i = 0; i < run.n; i += kTileRows) code_tile<kBits, kTileRows, kOutputs>(run, i, o);
  for (; o < run.k; ++o)
    for (std::size_t i = 0; i < run.n; i += kNarrowRows) code_tile<kBits, kNarrowRows, 1>(run, i, o);
}

// --- rows to codes ---------------------------------------------------------------------------------------------------

inline void round_values(const float* x, std::size_t d, float inverse, std::int8_t* codes) {
  std::size_t j = 0;
  for (; j + 32 <= d; j += 32) leaf::codes32(x + j, inverse, codes + j);
  for (; j < d; ++j) codes[j] = static_cast<std::int8_t>(round_even(x[j] * inverse));
}

// Returns the scale. Tiny rows are lifted as blocks of the codec are (docs/formats.md).
inline float round_row(const float* x, std::size_t d, std::int8_t* codes) {
  std::uint32_t top = 0;
  for (std::size_t j = 0; j < d; ++j) {
    const std::uint32_t bits = magnitude_bits(x[j]);
    top = bits > top ? bits : top;
  }
  if (top >= kInfBits) {
    memset(codes, 0, d);
    return bits_float(kNanBits);
  }
  const bool tiny = bits_float(top) < kTinyAbsmax;
  const float scale = uniform_scale(tiny ? bits_float(top) * kLift : bits_float(top), 127);
  const float inverse = scale > 0 ? 1.0f / scale : 0.0f;
  if (!tiny) {
    round_values(x, d, inverse, codes);
    return scale;
  }
  for (std::size_t j = 0; j < d; ++j) codes[j] = static_cast<std::int8_t>(round_even(x[j] * kLift * inverse));
  return scale * kDrop;
}

template <int kBits>
inline void correct(const std::int8_t* codes, std::size_t n_blocks, std::int32_t* corrections) {
  Bytes bias;
  for (int p = 0; p < kParts; ++p) bias.part[p] = NativeBytes{} + static_cast<std::int8_t>(kWeightBias<kBits>);
  for (std::size_t b = 0; b < n_blocks; ++b) {
    Ints sum{};
    if constexpr (kWeightBias<kBits> != 0) {
      sum = add_products<kBits>(sum, bias, bias, codes + b * kMatmulBlock);
    }
    for (int p = 0; p < kParts; ++p) sum.part[p] = -sum.part[p];
    memcpy(corrections + b * kMatmulLanes, &sum, sizeof sum);
  }
}

void round_rows(const RoundRun& run) {
  const std::size_t n_blocks = (run.d + kMatmulBlock - 1) / kMatmulBlock;
  for (std::size_t i = 0; i < run.n; ++i) {
    std::int8_t* codes = run.codes + i * run.code_stride;
    run.scale[i] = round_row(run.x + static_cast<std::ptrdiff_t>(i) * run.stride, run.d, codes);
    memset(codes + run.d, 0, run.code_stride - run.d);
    std::int32_t* corrections = run.corrections + i * n_blocks * kMatmulLanes;
    if (run.bits == 8) correct<8>(codes, n_blocks, corrections);
    else correct<4>(codes, n_blocks, corrections);
  }
}

// The bias is taken off again: a stretch may begin anywhere, and no table holds the sums of x there.
void add_piece(const PieceRun& run) {
  const Bytes low = biased(load_as<Bytes>(run.w)), high = biased(load_as<Bytes>(run.w + 64)), zero = biased(Bytes{});
  const Floats scale = Floats::all(run.scale);
  for (std::size_t i = 0; i < run.n; ++i) {
    const std::int8_t* x = run.codes + i * run.code_stride;
    Ints lanes = add_products<8>(Ints{}, low, high, x);
    if constexpr (kWeightBias<8> != 0) {
      const Ints extra = add_products<8>(Ints{}, zero, zero, x);
      for (int p = 0; p < kParts; ++p) lanes.part[p] -= extra.part[p];
    }
    float* kept = run.sums + i * kMatmulLanes;
    (Floats::load(kept) + to_floats(lanes) * scale).store(kept);
  }
}

}  // namespace
}  // namespace scrimp
