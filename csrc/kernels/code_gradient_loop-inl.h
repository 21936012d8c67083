// The fused gradient on rows of codes, in integers: weights and slopes are rounded to 24 bits under one unit (of all
// weights of an output, of the slopes of kSlopeRows rows), their products with the codes are added exactly. An error is
// 2⁻²⁴ of the largest weight or slope. Compiled once per ISA: no std template, unnamed namespace.
#pragma once
#include "kernels/code_leaf-inl.h"
#include "kernels/gradient_loop-inl.h"

namespace scrimp {
namespace {

// fixed[i] = the nearest integer to values[i]/unit; returns the unit, NaN if a value is not finite.
inline double to_fixed(const float* values, std::size_t n, std::int32_t* fixed) {
  std::uint32_t top = 0;
  for (std::size_t i = 0; i < n; ++i) {
    std::uint32_t bits;
    memcpy(&bits, values + i, sizeof bits);
    bits &= 0x7fffffff;
    top = bits > top ? bits : top;
  }
  float largest;
  memcpy(&largest, &top, sizeof largest);
  const bool finite = top < 0x7f800000;
  const double inverse = finite && top ? kLargestFixed / static_cast<double>(largest) : 0.0;
  for (std::size_t i = 0; i < n; ++i) {
    const double shifted = (finite ? static_cast<double>(values[i]) : 0.0) * inverse + FloatBits<double>::kRounder;
    std::int64_t bits;
    memcpy(&bits, &shifted, sizeof bits);
    fixed[i] = static_cast<std::int32_t>(bits);
  }
  return finite ? static_cast<double>(largest) / kLargestFixed : __builtin_nan("");
}

// kRows rows from row i on, of n, as bytes; the last row stands in for absent ones.
template <std::size_t kRows>
struct CodeBlock {
  const std::uint8_t* row[kRows];

  template <class E>
  CodeBlock(const E* x, std::ptrdiff_t stride, std::size_t i, std::size_t n) {
    if (i + kRows <= n) {
      const E* first = x + static_cast<std::ptrdiff_t>(i) * stride;
      for (std::size_t r = 0; r < kRows; ++r, first += stride) row[r] = reinterpret_cast<const std::uint8_t*>(first);
      return;
    }
    for (std::size_t r = 0; r < kRows; ++r)
      row[r] = reinterpret_cast<const std::uint8_t*>(x + static_cast<std::ptrdiff_t>(i + r < n ? i + r : n - 1) * stride);
  }
};

// Calls use(how to read the bytes, first byte, columns, first column, where its digits begin) for each run of columns.
template <class Use>
inline void for_runs(const std::int8_t*, std::size_t d, Use use) {
  use(WholeByte{}, d, std::size_t{0}, std::size_t{0});
}
template <class Use>
inline void for_runs(const Nibbles*, std::size_t d, Use use) {
  const std::size_t h = (d + 1) / 2;
  use(LowNibble{}, h, std::size_t{0}, std::size_t{0});
  use(HighNibble{}, d - h, h, high_nibbles_at(h));
}

template <class E>
struct CodesOf;
template <>
struct CodesOf<std::int8_t> {
  using Leaf = code_leaf::Leaf<WholeByte>;
};
template <>
struct CodesOf<Nibbles> {
  using Leaf = code_leaf::Leaf<LowNibble>;  // as that of HighNibble
};
template <class E>
using LeafOf = typename CodesOf<E>::Leaf;

// Weights in fixed point, in fixed_weights_nbytes(d, k) bytes.
template <class E>
struct FixedWeights {
  using Leaf = LeafOf<E>;
  using Digit = typename Leaf::Digit;
  std::size_t d, stride;  // of the planes of digits
  Digit* digits;          // [k][planes][stride]
  double* unit;           // [k]
  double* shift;          // [k] what the offset of the codes adds

  FixedWeights(void* memory, std::size_t n_columns, std::size_t k) : d(n_columns), stride(code_stride(n_columns)) {
    unit = static_cast<double*>(memory);
    shift = unit + k;
    digits = reinterpret_cast<Digit*>(shift + k);
  }

  Digit* of(std::size_t o) const { return digits + o * Leaf::kPlanes * stride; }

  // z[r] = w[o]·row[r] of kBlockRows rows: an exact sum, less an exact shift, in double.
  void multiply(std::size_t o, const std::uint8_t* const* row, std::ptrdiff_t ahead, float* z) const {
    if constexpr (Leaf::kWholeRows) {
      Leaf::multiply(row, d, ahead, of(o), stride, shift + o, unit + o, z);
    } else {
      for (std::size_t b = 0; b < kBlockRows; b += kSumRows) {
        std::int64_t total[kSumRows] = {};
        multiply_runs(o, row + b, total);
        for (int r = 0; r < kSumRows; ++r) z[b + r] = static_cast<float>((static_cast<double>(total[r]) - shift[o]) * unit[o]);
      }
    }
  }

  void multiply_runs(std::size_t o, const std::uint8_t* const* row, std::int64_t* total) const {
    typename Leaf::Sums sums;
    for_runs(static_cast<const E*>(nullptr), d, [&](auto codes, std::size_t n, std::size_t, std::size_t begin) {
      for (std::size_t j = 0; j < n; j += kSegment) {
        const std::uint8_t* at[kSumRows];
        for (int r = 0; r < kSumRows; ++r) at[r] = row[r] + j;
        sums.template add<decltype(codes)>(at, n - j < kSegment ? n - j : kSegment, of(o) + begin + j, stride);
        if (n > kSegment / 2) sums.take(total);
      }
    });
    sums.take(total);
  }

  // fixed: scratch [d].
  void write(std::size_t o, const float* w, std::int32_t* fixed) const {
    memset(of(o), 0, Leaf::kPlanes * stride * sizeof(Digit));
    unit[o] = to_fixed(w, d, fixed);
    std::int64_t above = 0;
    for_runs(static_cast<const E*>(nullptr), d, [&](auto codes, std::size_t n, std::size_t first, std::size_t begin) {
      for (std::size_t j = 0; j < n; ++j) {
        split(fixed[first + j], of(o) + begin + j, stride);
        above += code_leaf::kOffset<decltype(codes)> * fixed[first + j];
      }
    });
    shift[o] = static_cast<double>(above);
  }
};

template <class E>
void fix_weights(const float* w, std::size_t d, std::size_t k, std::int32_t* scratch, void* memory) {
  const FixedWeights<E> weights(memory, d, k);
  for (std::size_t o = 0; o < k; ++o) weights.write(o, w + o * d, scratch);
}

// Slopes of kSlopeRows rows in fixed point.
template <class E>
struct FixedSlopes {
  typename LeafOf<E>::Slopes digits;
  float upper_unit, unit;

  // slope: [kSlopeRows / kBlockRows][kBlockRows], the blocks `apart`; those of n rows are there, the others are 0.
  static FixedSlopes of(const float* slope, std::size_t apart, std::size_t n) {
    alignas(64) float slopes[kSlopeRows];
    for (std::size_t r = 0; r < kSlopeRows; r += kBlockRows)
      if (r < n) copy_block(slope + r / kBlockRows * apart, slopes + r);
      else memset(slopes + r, 0, kBlockRows * sizeof(float));
    std::int32_t fixed[kSlopeRows];
    const double unit = to_fixed(slopes, kSlopeRows, fixed);
    return {typename LeafOf<E>::Slopes(fixed), static_cast<float>(256 * unit), static_cast<float>(unit)};
  }

  // g += Σ_r slope[r]·row[r], while rows `ahead` bytes ahead are fetched.
  void add(const std::uint8_t* const* row, std::size_t d, std::ptrdiff_t ahead, float* g) const {
    if constexpr (LeafOf<E>::kBothNibbles) {
      LeafOf<E>::add_both(row, d, ahead, digits, upper_unit, unit, g);
    } else {
      for_runs(static_cast<const E*>(nullptr), d, [&](auto codes, std::size_t n, std::size_t first, std::size_t) {
        code_leaf::add_codes<decltype(codes)>(row, n, ahead, digits, upper_unit, unit, g + first);
      });
    }
  }
};

// Products of rows of codes, as FloatRows has them.
template <class E>
struct CodeRows {
  using Leaf = LeafOf<E>;
  static constexpr std::size_t kBlock = kSlopeRows;
  const GradientRun<E, float>& run;
  FixedWeights<E> weights;

  // How far ahead of the rows at hand others are fetched, in bytes: past the next kSlopeRows.
  std::ptrdiff_t ahead() const { return run.k == 1 ? static_cast<std::ptrdiff_t>(kSlopeRows + kSlopeRows / 2) * run.stride : 0; }

  void multiply(std::size_t i, std::size_t n, float* z) const {
    for (std::size_t o = 0; o < run.k; ++o)
      for (std::size_t b = 0; b < n; b += kBlockRows)
        weights.multiply(o, CodeBlock<kBlockRows>(run.x, run.stride, i + b, run.n).row, ahead(), z + b * run.k + o * kBlockRows);
  }

  void add(std::size_t i, std::size_t n, const float* slope) const {
    for (std::size_t o = 0; o < run.k; ++o)
      for (std::size_t b = 0; b < n; b += kSlopeRows)
        FixedSlopes<E>::of(slope + b * run.k + o * kBlockRows, run.k * kBlockRows, n - b)
            .add(CodeBlock<kSlopeRows>(run.x, run.stride, i + b, run.n).row, run.d, ahead(), run.g + o * run.d);
  }
};

template <class L, bool kOverOutputs, class E>
void code_gradient_rows(const GradientRun<E, float>& run) {
  gradient_groups<L, kOverOutputs>(run, CodeRows<E>{run, {run.fixed, run.d, run.k}});
}

#define SCRIMP_LOSS_ROW(L, over_outputs)                                                                            \
  {L::kName, over_outputs, &gradient_rows<L, over_outputs, float, float>,                                           \
   &code_gradient_rows<L, over_outputs, std::int8_t>, &code_gradient_rows<L, over_outputs, Nibbles>,                \
   &gradient_rows<L, over_outputs, float, double>, &gradient_rows<L, over_outputs, double, double>,                 \
   &gradient_rows<L, over_outputs, std::int8_t, double>, &slope_rows<L, over_outputs, float>,                       \
   &slope_rows<L, over_outputs, double>},
#define SCRIMP_SCALAR_ROW(L) SCRIMP_LOSS_ROW(L, false)
#define SCRIMP_OUTPUTS_ROW(L) SCRIMP_LOSS_ROW(L, true)
constexpr LossKernels kLosses[] = {SCRIMP_SCALAR_LOSSES(SCRIMP_SCALAR_ROW) SCRIMP_ROW_LOSSES(SCRIMP_OUTPUTS_ROW)};
#undef SCRIMP_LOSS_ROW
#undef SCRIMP_SCALAR_ROW
#undef SCRIMP_OUTPUTS_ROW

}  // namespace
}  // namespace scrimp
