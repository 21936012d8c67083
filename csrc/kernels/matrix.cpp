#include "kernels/matrix.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <mutex>

#include "core/parallel.h"
#include "core/rng.h"
#include "kernels/table.h"

namespace scrimp {
namespace {

constexpr std::size_t kChunkRows = 64;

bool add_ranges(RowReader& rows, const MatrixView& x, std::size_t begin, std::size_t n, const RangeRun& run) {
  const MatrixKernels& kernels = active_table().linear->matrix;
  if (x.element == Element::kF64) {
    const Rows<double> r = rows.read<double>(begin, n);
    return kernels.range_f64(r.x, r.stride, run);
  }
  const Rows<float> r = rows.read<float>(begin, n);
  return kernels.range_f32(r.x, r.stride, run);
}

NonfiniteAt first_nonfinite(RowReader& rows, std::size_t begin, std::size_t n, std::size_t d) {
  const Rows<double> r = rows.read<double>(begin, n);
  for (std::size_t i = 0; i < n; ++i)
    for (std::size_t j = 0; j < d; ++j)
      if (!std::isfinite(r.x[static_cast<std::ptrdiff_t>(i) * r.stride + static_cast<std::ptrdiff_t>(j)]))
        return {true, begin + i, j};
  return {};
}

void quantize_run(const MatrixView& x, RowReader& rows, std::size_t begin, QuantizeRun<float> run) {
  const MatrixKernels& kernels = active_table().linear->matrix;
  if (x.element != Element::kF64) {
    const Rows<float> r = rows.read<float>(begin, run.n);
    run.x = r.x, run.stride = r.stride;
    return kernels.quantize_f32(run);
  }
  const Rows<double> r = rows.read<double>(begin, run.n);
  kernels.quantize_f64({r.x, r.stride, run.n, run.d, run.low, run.inverse, run.levels, run.centre, run.stochastic, run.key,
                        run.index, run.codes, run.noise, run.noise_high, run.weight, run.weighted_noise, run.sum});
}

// Scratch of one thread that quantizes leaf after leaf.
class LeafQuantizer {
 public:
  explicit LeafQuantizer(const QuantizeArgs& args)
      : args_(args), rows_(args.x), row_nbytes_(packed_row_nbytes(args.x.d, args.bits)), noise_(2 * args.x.d),
        codes_(args.bits < 8 ? kChunkRows * args.x.d : 0), weight_(kChunkRows) {}

  void run(std::size_t begin, std::size_t end, std::uint8_t* out, double* noise, double* sum) {
    const std::size_t d = args_.x.d;
    std::fill(noise_.begin(), noise_.end(), 0u);
    std::fill_n(noise, d, 0.0);
    std::fill_n(sum, d, 0.0);
    for (std::size_t i = begin; i < end; i += kChunkRows)
      add_chunk(i, std::min(kChunkRows, end - i), out + i * row_nbytes_, noise, sum);
    if (args_.weight.data) return;
    for (std::size_t j = 0; j < d; ++j) noise[j] = (noise_[d + j] * 32768.0 + noise_[j]) * 0x1p-32;
  }

 private:
  void add_chunk(std::size_t begin, std::size_t n, std::uint8_t* out, double* noise, double* sum) {
    const std::size_t d = args_.x.d;
    if (args_.weight.data) read_values(args_.weight, begin, n, weight_.data());
    const std::int32_t levels = (1 << args_.bits) - 1;
    std::int8_t* codes = args_.bits == 8 ? reinterpret_cast<std::int8_t*>(out) : codes_.data();
    quantize_run(args_.x, rows_, begin,
                 {nullptr, 0, n, d, args_.low, args_.inverse, levels, (levels + 1) / 2, args_.stochastic,
                  rng_key(args_.seed, 0), (args_.first_row + begin) * d, codes, noise_.data(), noise_.data() + d,
                  args_.weight.data ? weight_.data() : nullptr, noise, sum});
    if (args_.bits == 8) return;
    for (std::size_t i = 0; i < n; ++i)
      active_table().linear->matrix.pack(args_.bits, codes + i * d, d, out + i * row_nbytes_);
  }

  const QuantizeArgs& args_;
  RowReader rows_;
  std::size_t row_nbytes_;
  std::vector<std::uint32_t> noise_;
  std::vector<std::int8_t> codes_;
  std::vector<double> weight_;
};

}  // namespace

NonfiniteAt column_ranges(const MatrixView& x, double* low, double* high, std::uint8_t* integral, int threads) {
  const std::size_t d = x.d;
  std::fill_n(low, d, std::numeric_limits<double>::infinity());
  std::fill_n(high, d, -std::numeric_limits<double>::infinity());
  std::fill_n(integral, d, 1);
  NonfiniteAt bad;
  std::mutex merging;
  parallel_for(x.n, kLeafRows, choose_threads(threads, x.n * d * sizeof(float)), [&](std::size_t begin, std::size_t end) {
    RowReader rows(x);
    std::vector<double> part_low(d, std::numeric_limits<double>::infinity()), part_high(d, -std::numeric_limits<double>::infinity());
    std::vector<std::uint8_t> part_integral(d, 1);
    NonfiniteAt at;
    for (std::size_t i = begin; i < end && !at.found; i += kChunkRows) {
      const std::size_t n = std::min(kChunkRows, end - i);
      if (!add_ranges(rows, x, i, n, {n, d, part_low.data(), part_high.data(), part_integral.data()}))
        at = first_nonfinite(rows, i, n, d);
    }
    const std::lock_guard lock(merging);
    if (at.found && (!bad.found || at.row < bad.row)) bad = at;
    for (std::size_t j = 0; j < d; ++j) {
      low[j] = std::min(low[j], part_low[j]);
      high[j] = std::max(high[j], part_high[j]);
      integral[j] &= part_integral[j];
    }
  });
  return bad;
}

void quantize_rows(const QuantizeArgs& args, std::uint8_t* codes, double* noise, double* sum) {
  const std::size_t n = args.x.n, d = args.x.d;
  parallel_for(n_leaves(n), 1, choose_threads(args.threads, n * d * sizeof(float)), [&](std::size_t first, std::size_t last) {
    LeafQuantizer leaf(args);
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
