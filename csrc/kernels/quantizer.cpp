#include "kernels/quantizer.h"

#include <algorithm>

#include "core/rng.h"
#include "kernels/table.h"

namespace scrimp {

LeafQuantizer::LeafQuantizer(const QuantizeArgs& args)
    : args_(args), rows_(args.x), noise_(2 * args.x.d), weighted_noise_(args.x.d), sum_(args.x.d) {}

void LeafQuantizer::begin_leaf() {
  std::fill(noise_.begin(), noise_.end(), 0u);
  std::fill(weighted_noise_.begin(), weighted_noise_.end(), 0.0);
  std::fill(sum_.begin(), sum_.end(), 0.0);
}

void LeafQuantizer::add(std::size_t begin, std::size_t n, std::int8_t* codes) {
  if (args_.weight.data) {
    weight_.resize(n);
    read_values(args_.weight, begin, n, weight_.data());
  }
  if (args_.x.element == Element::kF64) return run<double>(begin, n, codes);
  run<float>(begin, n, codes);
}

template <class E>
void LeafQuantizer::run(std::size_t begin, std::size_t n, std::int8_t* codes) {
  const std::size_t d = args_.x.d;
  const Rows<E> rows = rows_.read<E>(begin, n);
  const std::int32_t levels = (1 << args_.bits) - 1;
  const QuantizeRun<E> run{rows.x, rows.stride, n, d, d, args_.low, args_.inverse, levels, (levels + 1) / 2, args_.stochastic,
                           rng_key(args_.seed, 0), (args_.first_row + begin) * d, codes, noise_.data(), noise_.data() + d,
                           args_.weight.data ? weight_.data() : nullptr, weighted_noise_.data(), sum_.data()};
  const MatrixKernels& kernels = active_table().linear->matrix;
  if constexpr (sizeof(E) == sizeof(float)) kernels.quantize_f32(run);
  else kernels.quantize_f64(run);
}

void LeafQuantizer::end_leaf(double* noise, double* sum) const {
  const std::size_t d = args_.x.d;
  for (std::size_t j = 0; j < d; ++j)
    noise[j] = args_.weight.data ? weighted_noise_[j] : (noise_[d + j] * 32768.0 + noise_[j]) * 0x1p-32;
  std::copy(sum_.begin(), sum_.end(), sum);
}

}  // namespace scrimp
