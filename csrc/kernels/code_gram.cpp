#include "kernels/code_gram.h"

#include <algorithm>
#include <memory>
#include <mutex>
#include <new>
#include <optional>

#include "core/parallel.h"
#include "kernels/quantizer.h"
#include "kernels/table.h"

namespace scrimp {
namespace {

constexpr std::align_val_t kAlignment{64};

struct AlignedDelete {
  void operator()(std::uint8_t* p) const { ::operator delete(p, kAlignment); }
};

std::unique_ptr<std::uint8_t, AlignedDelete> aligned_bytes(std::size_t nbytes) {
  return std::unique_ptr<std::uint8_t, AlignedDelete>(static_cast<std::uint8_t*>(::operator new(nbytes, kAlignment)));
}

// One thread's part: integer sums over its leaves, and each leaf's float64 sums.
class CodeGramPart {
 public:
  explicit CodeGramPart(const CodeGramArgs& args)
      : args_(args), kernels_(*active_table().linear), rows_(args.x), scratch_(aligned_bytes(kernels_.code_gram_nbytes(args.x.d))),
        c_(args.x.d * args.x.d), sum_(args.x.d), y_(kCodeGramRows * args.y.d), cross_(args.x.d * args.y.d), y_sum_(args.y.d) {
    if (!args.quantize) return;
    quantizer_.emplace(*args.quantize);
    codes_.resize(kCodeGramRows * args.x.d);
  }

  void run(std::size_t begin, std::size_t end, double* out) {
    std::fill(cross_.begin(), cross_.end(), 0.0);
    std::fill(y_sum_.begin(), y_sum_.end(), 0.0);
    y_square_ = 0;
    if (quantizer_) quantizer_->begin_leaf();
    for (std::size_t i = begin; i < end; i += kCodeGramRows) add_chunk(i, std::min(kCodeGramRows, end - i));
    write(static_cast<double>(end - begin), out);
  }

  void merge_into(std::int64_t* c, std::int64_t* sum) const {
    for (std::size_t i = 0; i < c_.size(); ++i) c[i] += c_[i];
    for (std::size_t j = 0; j < sum_.size(); ++j) sum[j] += sum_[j];
  }

 private:
  Rows<std::int8_t> codes_at(std::size_t begin, std::size_t n) {
    if (!quantizer_) return rows_.read<std::int8_t>(begin, n);
    quantizer_->add(begin, n, codes_.data());
    return {codes_.data(), static_cast<std::ptrdiff_t>(args_.x.d)};
  }

  // Rows are fetched ahead where they lie one after the other; no address is too high for that.
  std::size_t row_nbytes() const { return static_cast<std::size_t>(std::max<std::ptrdiff_t>(0, args_.x.row_stride)); }
  std::uintptr_t address_of(std::size_t row) const { return reinterpret_cast<std::uintptr_t>(args_.x.data) + row * row_nbytes(); }

  void add_chunk(std::size_t begin, std::size_t n) {
    const Rows<std::int8_t> codes = codes_at(begin, n);
    const std::size_t d = args_.x.d, k = args_.y.d;
    kernels_.code_gram({codes.x, codes.stride, n, d, scratch_.get(), c_.data(), sum_.data(), address_of(begin + n), n * row_nbytes()});
    if (!k) return;
    read_values(args_.y, begin, n, y_.data());
    kernels_.cross({codes.x, codes.stride, n, d, k, y_.data(), cross_.data()});
    for (std::size_t i = 0; i < n; ++i)
      for (std::size_t o = 0; o < k; ++o) {
        y_sum_[o] += y_[i * k + o];
        y_square_ += y_[i * k + o] * y_[i * k + o];
      }
  }

  void write(double n, double* out) const {
    const std::size_t d = args_.x.d, k = args_.y.d;
    for (std::size_t j = 0; j < d; ++j)
      for (std::size_t o = 0; o < k; ++o) out[j * k + o] = args_.offset[j] * y_sum_[o] + args_.scale[j] * cross_[o * d + j];
    std::copy(y_sum_.begin(), y_sum_.end(), out + d * k);
    out[d * k + k] = y_square_;
    out[d * k + k + 1] = n;
    if (!quantizer_) return;
    double *sum = out + d * k + k + 2, *noise = sum + d;
    quantizer_->end_leaf(noise, sum);
    for (std::size_t j = 0; j < d; ++j) noise[j] *= args_.scale[j] * args_.scale[j];
  }

  const CodeGramArgs& args_;
  const LinearKernels& kernels_;
  RowReader rows_;
  std::optional<LeafQuantizer> quantizer_;
  std::unique_ptr<std::uint8_t, AlignedDelete> scratch_;
  std::vector<std::int8_t> codes_;
  std::vector<std::int64_t> c_, sum_;
  std::vector<double> y_, cross_, y_sum_;
  double y_square_ = 0;
};

}  // namespace

void code_gram(const CodeGramArgs& args, std::int64_t* c, std::int64_t* sum, double* leaves) {
  const std::size_t n = args.x.n, d = args.x.d, width = code_gram_width(d, args.y.d, args.quantize);
  std::fill_n(c, d * d, 0);
  std::fill_n(sum, d, 0);
  std::mutex merging;
  parallel_for(n_leaves(n), 1, choose_threads(args.threads, n * d), [&](std::size_t first, std::size_t last) {
    CodeGramPart part(args);
    for (std::size_t l = first; l < last; ++l) part.run(l * kLeafRows, std::min(n, (l + 1) * kLeafRows), leaves + l * width);
    const std::lock_guard lock(merging);  // integers: the order of threads does not matter
    part.merge_into(c, sum);
  });
  for (std::size_t i = 0; i < d; ++i)
    for (std::size_t j = 0; j < i; ++j) c[i * d + j] = c[j * d + i];
}

}  // namespace scrimp
