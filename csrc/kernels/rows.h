#pragma once
// A read-only view of a matrix of any element type that training reads, and a reader that hands out runs of its rows as
// contiguous float, double or int8 rows: in place where they lie so, else through a scratch buffer of its own.
#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/linear_table.h"

namespace scrimp {

enum class Element : std::uint8_t { kBF16, kF16, kF32, kF64, kI8, kU4, kU2, kU1 };

struct MatrixView {
  const std::byte* data = nullptr;
  Element element = Element::kF32;
  std::size_t n = 0, d = 0;
  std::ptrdiff_t row_stride = 0, column_stride = 0;  // in bytes; codes below 8 bits: one packed row every row_stride

  bool is_codes() const { return element >= Element::kI8; }
  int bits() const { return element == Element::kI8 ? 8 : element == Element::kU4 ? 4 : element == Element::kU2 ? 2 : 1; }
};

template <class E>
struct Rows {
  const E* x;
  std::ptrdiff_t stride;  // in elements
};

class RowReader {
 public:
  explicit RowReader(const MatrixView& view) : view_(view) {}

  // Rows [begin, begin + n). float, double: any float element. int8: codes. Nibbles: codes of 4 bits, as they are.
  // Valid until the next call.
  template <class E>
  Rows<E> read(std::size_t begin, std::size_t n);

  // Whether such rows are handed out where they lie.
  template <class E>
  bool in_place() const;

 private:
  const MatrixView view_;
  std::vector<double> scratch_;
};

constexpr std::size_t n_leaves(std::size_t n) { return (n + kLeafRows - 1) / kLeafRows; }

// Values [begin, begin + n)·k of a [*, k] array of any float type as T.
template <class T>
void read_values(const MatrixView& view, std::size_t begin, std::size_t n, T* out);

// Copies rows index[0 … n) next to each other, in the bits they are stored in; returns the view of the copies in `bytes`.
// Of index[0 … known) those that come next are fetched.
MatrixView take_rows(const MatrixView& view, const std::int64_t* index, std::size_t n, std::size_t known, std::vector<double>& bytes);

}  // namespace scrimp
