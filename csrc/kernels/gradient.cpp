#include "kernels/gradient.h"

#include <algorithm>

#include "core/check.h"
#include "core/parallel.h"
#include "kernels/table.h"

namespace scrimp {
namespace {

constexpr std::size_t kReadBytes = 16384;  // rows that are converted before the kernel takes them: half of an L1 cache
constexpr std::size_t kChunkRows = 256;  // rows whose gradient is summed in T before it is added to the leaf's float64

template <class E, class T>
auto kernel_of(const LossKernels& loss) {
  if constexpr (std::is_same_v<T, float>) {
    if constexpr (std::is_same_v<E, float>) return loss.f32;
    else if constexpr (std::is_same_v<E, Nibbles>) return loss.u4;
    else return loss.i8;
  } else {
    if constexpr (std::is_same_v<E, float>) return loss.f32_f64;
    else if constexpr (std::is_same_v<E, double>) return loss.f64_f64;
    else return loss.i8_f64;
  }
}

// Weights of the codes: [k][d] scale∘w, and the bias with offset·w inside.
template <class T>
struct CodeWeights {
  std::vector<T> w, bias;
  std::vector<double> fixed;  // w as the kernels of codes take it

  explicit CodeWeights(const GradientArgs& a) : w(a.k * a.x.d), bias(a.k) {
    for (std::size_t o = 0; o < a.k; ++o) {
      double shift = a.bias[o];
      for (std::size_t j = 0; j < a.x.d; ++j) {
        const double wj = a.w[j * a.k + o];
        w[o * a.x.d + j] = static_cast<T>(a.scale ? a.scale[j] * wj : wj);
        if (a.offset) shift += a.offset[j] * wj;
      }
      bias[o] = static_cast<T>(shift);
    }
  }

  template <class E>
  void fix(const GradientArgs& a) {
    const LinearKernels& kernels = *active_table().linear;
    std::vector<std::int32_t> scratch(a.x.d);
    fixed.resize((fixed_weights_nbytes(a.x.d, a.k) + sizeof(double) - 1) / sizeof(double));
    (std::is_same_v<E, Nibbles> ? kernels.fix_u4 : kernels.fix_i8)(w.data(), a.x.d, a.k, scratch.data(), fixed.data());
  }
};

// Whether the kernel multiplies integers.
template <class E, class T>
constexpr bool kFixed = sizeof(E) == 1 && sizeof(T) == sizeof(float);

// Scratch of one thread, and the sums of the leaf at hand with g as [k][d] of codes.
template <class E, class T>
class LeafGradient {
 public:
  LeafGradient(const GradientArgs& args, const LossKernels& loss, CodeWeights<T>& weights)
      : args_(args), loss_(loss), weights_(weights), rows_(args.x), y_(kChunkRows * args.y.d), weight_(kChunkRows),
        z_((kBlockRows + group_rows(args.x.d * sizeof(E), args.k, kStep)) * args.k), g_(args.k * args.x.d), sum_(args.k * args.x.d), g0_(args.k) {}

  void run(std::size_t begin, std::size_t end, const double* noise, double* out) {
    std::fill(sum_.begin(), sum_.end(), 0.0);
    std::fill(g0_.begin(), g0_.end(), 0.0);
    value_ = total_weight_ = 0;
    for (std::size_t i = begin; i < end; i += kChunkRows) add_chunk(i, std::min(kChunkRows, end - i));
    write(noise, out);
  }

 private:
  static constexpr std::size_t kStep = kFixed<E, T> ? kSlopeRows : kBlockRows;

  void add_chunk(std::size_t begin, std::size_t n) {
    std::fill(g_.begin(), g_.end(), T{0});
    const std::size_t step = rows_.template in_place<E>() ? n : std::max(kStep, kReadBytes / (args_.x.d * sizeof(E) + 1) / kStep * kStep);
    for (std::size_t i = 0; i < n; i += step) add_rows(begin + i, std::min(step, n - i));
    for (std::size_t i = 0; i < g_.size(); ++i) sum_[i] += static_cast<double>(g_[i]);
  }

  void add_rows(std::size_t begin, std::size_t n) {
    const Rows<E> rows = rows_.template read<E>(begin, n);
    read_values(args_.y, begin, n, y_.data());
    if (args_.weight.data) read_values(args_.weight, begin, n, weight_.data());
    const bool y_is_class = loss_.over_outputs && args_.y.d != args_.k;
    kernel_of<E, T>(loss_)({rows.x, rows.stride, n, args_.x.d, args_.k, weights_.w.data(), weights_.bias.data(), y_.data(),
                            args_.weight.data ? weight_.data() : nullptr, static_cast<T>(args_.parameter), y_is_class,
                            z_.data(), weights_.fixed.data(), g_.data(), g0_.data(), &value_});
    if (!args_.weight.data) total_weight_ += static_cast<double>(n);
    else
      for (std::size_t i = 0; i < n; ++i) total_weight_ += static_cast<double>(weight_[i]);
  }

  void write(const double* noise, double* out) {
    const std::size_t d = args_.x.d, k = args_.k;
    for (std::size_t j = 0; j < d; ++j)
      for (std::size_t o = 0; o < k; ++o) {
        double g = sum_[o * d + j];
        if (args_.scale) g = args_.scale[j] * g + args_.offset[j] * g0_[o];
        const double correction = noise ? noise[j] * args_.w[j * k + o] : 0.0;
        out[j * k + o] = g - correction;
        value_ -= 0.5 * correction * args_.w[j * k + o];
      }
    std::copy(g0_.begin(), g0_.end(), out + d * k);
    out[d * k + k] = value_;
    out[d * k + k + 1] = total_weight_;
  }

  const GradientArgs& args_;
  const LossKernels& loss_;
  CodeWeights<T>& weights_;
  RowReader rows_;
  std::vector<T> y_, weight_, z_, g_;
  std::vector<double> sum_, g0_;
  double value_ = 0, total_weight_ = 0;
};

template <class E, class T>
void run_leaves(const GradientArgs& args, const LossKernels& loss, double* out) {
  CodeWeights<T> weights(args);
  if constexpr (kFixed<E, T>) weights.template fix<E>(args);
  const std::size_t width = gradient_width(args.x.d, args.k), n = args.x.n;
  parallel_for(n_leaves(n), 1, choose_threads(args.threads, n * args.x.d * sizeof(E)), [&](std::size_t first, std::size_t last) {
    LeafGradient<E, T> leaf(args, loss, weights);
    for (std::size_t l = first; l < last; ++l)
      leaf.run(l * kLeafRows, std::min(n, (l + 1) * kLeafRows), args.noise ? args.noise + l * args.x.d : nullptr,
               out + l * width);
  });
}

}  // namespace

const LossKernels& find_loss(const std::string& name) {
  const LinearKernels& kernels = *active_table().linear;
  std::string known;
  for (std::size_t i = 0; i < kernels.n_losses; ++i) {
    if (name == kernels.losses[i].name) return kernels.losses[i];
    known += (i ? ", " : "") + std::string(kernels.losses[i].name);
  }
  require(false, "unknown loss '", name, "'; known: ", known);
  std::abort();
}

void gradient_leaves(const GradientArgs& args, double* out) {
  const LossKernels& loss = find_loss(args.loss);
  if (args.x.element == Element::kU4 && !args.precise) return run_leaves<Nibbles, float>(args, loss, out);
  if (args.x.is_codes()) return args.precise ? run_leaves<std::int8_t, double>(args, loss, out) : run_leaves<std::int8_t, float>(args, loss, out);
  if (!args.precise) return run_leaves<float, float>(args, loss, out);
  if (args.x.element == Element::kF64) return run_leaves<double, double>(args, loss, out);
  run_leaves<float, double>(args, loss, out);
}

template <class T>
void slopes_of_scores(const GradientArgs& args, T* scores, double* sums) {
  const LossKernels& loss = find_loss(args.loss);
  const std::size_t k = args.k;
  std::vector<T> bias(args.bias, args.bias + k), y(kChunkRows * args.y.d), weight(kChunkRows);
  std::vector<T> z((kBlockRows + group_rows(k * sizeof(T), k, kBlockRows)) * k);
  std::fill(sums, sums + k + 2, 0.0);
  for (std::size_t i = 0; i < args.x.n; i += kChunkRows) {
    const std::size_t n = std::min(kChunkRows, args.x.n - i);
    read_values(args.y, i, n, y.data());
    if (args.weight.data) read_values(args.weight, i, n, weight.data());
    else std::fill(weight.begin(), weight.end(), T{1});
    const GradientRun<T, T> run{scores + i * k, static_cast<std::ptrdiff_t>(k), n, k, k, nullptr, bias.data(), y.data(),
                                args.weight.data ? weight.data() : nullptr, static_cast<T>(args.parameter),
                                loss.over_outputs && args.y.d != k, z.data(), nullptr, scores + i * k, sums, sums + k};
    if constexpr (std::is_same_v<T, float>) loss.slopes_f32(run);
    else loss.slopes_f64(run);
    for (std::size_t r = 0; r < n; ++r) sums[k + 1] += static_cast<double>(weight[r]);
  }
}

template void slopes_of_scores<float>(const GradientArgs&, float*, double*);
template void slopes_of_scores<double>(const GradientArgs&, double*, double*);

void product(const GradientArgs& args, float* out) {
  const LinearKernels& kernels = *active_table().linear;
  const CodeWeights<float> weights(args);
  const std::size_t d = args.x.d, k = args.k;
  parallel_for(args.x.n, kChunkRows, choose_threads(args.threads, args.x.n * d * sizeof(float)), [&](std::size_t begin, std::size_t end) {
    RowReader reader(args.x);
    for (std::size_t i = begin; i < end; i += kChunkRows) {
      const std::size_t n = std::min(kChunkRows, end - i);
      if (args.x.is_codes()) {
        const Rows<std::int8_t> rows = reader.read<std::int8_t>(i, n);
        kernels.product_i8({rows.x, rows.stride, n, d, k, weights.w.data(), weights.bias.data(), out + i * k});
      } else {
        const Rows<float> rows = reader.read<float>(i, n);
        kernels.product_f32({rows.x, rows.stride, n, d, k, weights.w.data(), weights.bias.data(), out + i * k});
      }
    }
  });
}

}  // namespace scrimp
