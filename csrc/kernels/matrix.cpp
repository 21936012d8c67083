#include "kernels/matrix.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <mutex>

#include "core/parallel.h"
#include "kernels/quantizer.h"
#include "kernels/table.h"

namespace scrimp {
namespace {

constexpr std::size_t kChunkRows = 64;

// Ranges of the rows that one thread read, in the matrix's own precision.
template <class E>
class PartRanges {
 public:
  explicit PartRanges(const MatrixView& x)
      : rows_(x), d_(x.d), low_(d_, std::numeric_limits<E>::infinity()), high_(d_, -std::numeric_limits<E>::infinity()), apart_(d_) {}

  // Where the first NaN or infinity of the rows is.
  NonfiniteAt add(std::size_t begin, std::size_t n) {
    const Rows<E> r = rows_.template read<E>(begin, n);
    const RangeRun<E> run{n, d_, low_.data(), high_.data(), apart_.data()};
    const MatrixKernels& kernels = active_table().linear->matrix;
    bool finite;
    if constexpr (sizeof(E) == sizeof(float)) finite = kernels.range_f32(r.x, r.stride, run);
    else finite = kernels.range_f64(r.x, r.stride, run);
    return finite ? NonfiniteAt{} : first_nonfinite(r, begin, n);
  }

  void merge_into(double* low, double* high, std::uint8_t* integral) const {
    for (std::size_t j = 0; j < d_; ++j) {
      low[j] = std::min<double>(low[j], low_[j]);
      high[j] = std::max<double>(high[j], high_[j]);
      integral[j] &= apart_[j] == 0;
    }
  }

 private:
  NonfiniteAt first_nonfinite(const Rows<E>& r, std::size_t begin, std::size_t n) const {
    for (std::size_t i = 0; i < n; ++i)
      for (std::size_t j = 0; j < d_; ++j)
        if (!std::isfinite(r.x[static_cast<std::ptrdiff_t>(i) * r.stride + static_cast<std::ptrdiff_t>(j)]))
          return {true, begin + i, j};
    return {};
  }

  RowReader rows_;
  std::size_t d_;
  std::vector<E> low_, high_, apart_;
};

template <class E>
NonfiniteAt ranges_as(const MatrixView& x, double* low, double* high, std::uint8_t* integral, int threads) {
  NonfiniteAt bad;
  std::mutex merging;
  parallel_for(x.n, kLeafRows, choose_threads(threads, x.n * x.d * sizeof(E)), [&](std::size_t begin, std::size_t end) {
    PartRanges<E> part(x);
    NonfiniteAt at;
    for (std::size_t i = begin; i < end && !at.found; i += kChunkRows) at = part.add(i, std::min(kChunkRows, end - i));
    const std::lock_guard lock(merging);
    if (at.found && (!bad.found || at.row < bad.row)) bad = at;
    part.merge_into(low, high, integral);
  });
  return bad;
}

// Scratch of one thread that quantizes leaf after leaf into rows of its own width.
class LeafPacker {
 public:
  explicit LeafPacker(const QuantizeArgs& args)
      : args_(args), quantizer_(args), row_nbytes_(packed_row_nbytes(args.x.d, args.bits)),
        codes_(args.bits < 8 ? kChunkRows * args.x.d : 0) {}

  void run(std::size_t begin, std::size_t end, std::uint8_t* out, double* noise, double* sum) {
    quantizer_.begin_leaf();
    for (std::size_t i = begin; i < end; i += kChunkRows) add_chunk(i, std::min(kChunkRows, end - i), out + i * row_nbytes_);
    quantizer_.end_leaf(noise, sum);
  }

 private:
  void add_chunk(std::size_t begin, std::size_t n, std::uint8_t* out) {
    const std::size_t d = args_.x.d;
    if (args_.bits == 8) return quantizer_.add(begin, n, reinterpret_cast<std::int8_t*>(out));
    quantizer_.add(begin, n, codes_.data());
    for (std::size_t i = 0; i < n; ++i)
      active_table().linear->matrix.pack(args_.bits, codes_.data() + i * d, d, out + i * row_nbytes_);
  }

  const QuantizeArgs& args_;
  LeafQuantizer quantizer_;
  std::size_t row_nbytes_;
  std::vector<std::int8_t> codes_;
};

}  // namespace

NonfiniteAt column_ranges(const MatrixView& x, double* low, double* high, std::uint8_t* integral, int threads) {
  std::fill_n(low, x.d, std::numeric_limits<double>::infinity());
  std::fill_n(high, x.d, -std::numeric_limits<double>::infinity());
  std::fill_n(integral, x.d, 1);
  return x.element == Element::kF64 ? ranges_as<double>(x, low, high, integral, threads)
                                    : ranges_as<float>(x, low, high, integral, threads);
}

void quantize_rows(const QuantizeArgs& args, std::uint8_t* codes, double* noise, double* sum) {
  const std::size_t n = args.x.n, d = args.x.d;
  parallel_for(n_leaves(n), 1, choose_threads(args.threads, n * d * sizeof(float)), [&](std::size_t first, std::size_t last) {
    LeafPacker leaf(args);
    for (std::size_t l = first; l < last; ++l)
      leaf.run(l * kLeafRows, std::min(n, (l + 1) * kLeafRows), codes, noise + l * d, sum + l * d);
  });
}

void dequantize_rows(const MatrixView& x, const double* scale, const double* offset, float* out, int threads) {
  parallel_for(x.n, kChunkRows, choose_threads(threads, x.n * x.d * sizeof(float)), [&](std::size_t begin, std::size_t end) {
    RowReader rows(x);
    for (std::size_t i = begin; i < end; i += kChunkRows) {
      const std::size_t n = std::min(kChunkRows, end - i);
      const Rows<std::int8_t> codes = rows.read<std::int8_t>(i, n);
      for (std::size_t r = 0; r < n; ++r) {
        const std::int8_t* code = codes.x + static_cast<std::ptrdiff_t>(r) * codes.stride;
        for (std::size_t j = 0; j < x.d; ++j) out[(i + r) * x.d + j] = static_cast<float>(offset[j] + scale[j] * code[j]);
      }
    }
  });
}

}  // namespace scrimp
