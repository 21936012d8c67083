#include "kernels/gram.h"

#include <algorithm>

#include "core/parallel.h"
#include "kernels/table.h"

namespace scrimp {
namespace {

constexpr std::size_t kPanelRows = 2 * kGramRows;

// Rows begin … begin+n of (x − shift, y, 1) as float64, padded with zeros to `width`; and the same times the weights.
class AugmentedRows {
 public:
  explicit AugmentedRows(const GramArgs& args)
      : args_(args), rows_(args.x), m_(args.x.d + args.y.d + 1), width_((m_ + kGramColumns - 1) / kGramColumns * kGramColumns),
        plain_(kPanelRows * width_), weighted_(args.weight.data ? kPanelRows * width_ : 0), y_(kPanelRows * args.y.d),
        weight_(kPanelRows) {}

  std::size_t columns() const { return m_; }
  std::size_t width() const { return width_; }
  const double* plain() const { return plain_.data(); }
  const double* weighted() const { return args_.weight.data ? weighted_.data() : plain_.data(); }

  void read(std::size_t begin, std::size_t n) {
    if (args_.x.is_codes()) read_x<std::int8_t>(begin, n);
    else if (args_.x.element == Element::kF64) read_x<double>(begin, n);
    else read_x<float>(begin, n);
    if (args_.y.data) read_values(args_.y, begin, n, y_.data());
    for (std::size_t i = 0; i < n; ++i) {
      double* row = plain_.data() + i * width_ + args_.x.d;
      for (std::size_t o = 0; o < args_.y.d; ++o) row[o] = y_[i * args_.y.d + o];
      row[args_.y.d] = 1.0;
    }
    if (!args_.weight.data) return;
    read_values(args_.weight, begin, n, weight_.data());
    for (std::size_t i = 0; i < n; ++i)
      for (std::size_t j = 0; j < width_; ++j) weighted_[i * width_ + j] = weight_[i] * plain_[i * width_ + j];
  }

 private:
  template <class E>
  void read_x(std::size_t begin, std::size_t n) {
    const Rows<E> rows = rows_.read<E>(begin, n);
    for (std::size_t i = 0; i < n; ++i) {
      const E* x = rows.x + static_cast<std::ptrdiff_t>(i) * rows.stride;
      double* row = plain_.data() + i * width_;
      for (std::size_t j = 0; j < args_.x.d; ++j) row[j] = static_cast<double>(x[j]);
      if (args_.scale)
        for (std::size_t j = 0; j < args_.x.d; ++j) row[j] = args_.offset[j] + args_.scale[j] * row[j];
      if (args_.shift)
        for (std::size_t j = 0; j < args_.x.d; ++j) row[j] -= args_.shift[j];
    }
  }

  const GramArgs& args_;
  RowReader rows_;
  std::size_t m_, width_;
  std::vector<double> plain_, weighted_, y_, weight_;
};

void write_triangle(const std::vector<double>& c, std::size_t width, std::size_t m, double* out) {
  for (std::size_t i = 0; i < m; ++i)
    for (std::size_t j = i; j < m; ++j) *out++ = c[i * width + j];
}

}  // namespace

void gram_leaves(const GramArgs& args, double* out) {
  const LinearKernels& kernels = *active_table().linear;
  const std::size_t n = args.x.n;
  parallel_for(n_leaves(n), 1, choose_threads(args.threads, n * args.x.d * sizeof(double)), [&](std::size_t first, std::size_t last) {
    AugmentedRows rows(args);
    const std::size_t m = rows.columns(), width = rows.width();
    std::vector<double> c(width * width), scratch(2 * kPanelRows * width);
    for (std::size_t l = first; l < last; ++l) {
      std::fill(c.begin(), c.end(), 0.0);
      const std::size_t end = std::min(n, (l + 1) * kLeafRows);
      for (std::size_t i = l * kLeafRows; i < end; i += kPanelRows) {
        const std::size_t count = std::min(kPanelRows, end - i);
        rows.read(i, count);
        kernels.gram({rows.weighted(), rows.plain(), count, width, c.data(), scratch.data()});
      }
      write_triangle(c, width, m, out + l * (m * (m + 1) / 2));
    }
  });
}

}  // namespace scrimp
