#include "kernels/rows.h"

#include <cstring>

#include "core/view.h"
#include "kernels/table.h"

namespace scrimp {
namespace {

const std::byte* row_at(const MatrixView& view, std::size_t i) {
  return view.data + static_cast<std::ptrdiff_t>(i) * view.row_stride;
}

template <class S, class T>
void convert_row(const std::byte* p, std::ptrdiff_t stride, std::size_t d, T* out) {
  if (stride == sizeof(S) && reinterpret_cast<std::uintptr_t>(p) % alignof(S) == 0) {
    const S* values = reinterpret_cast<const S*>(p);
    for (std::size_t j = 0; j < d; ++j) out[j] = static_cast<T>(values[j]);
    return;
  }
  for (std::size_t j = 0; j < d; ++j, p += stride) {
    S value;
    std::memcpy(&value, p, sizeof value);
    out[j] = static_cast<T>(value);
  }
}

float bf16_to_float(std::uint16_t bits) {
  const std::uint32_t wide = static_cast<std::uint32_t>(bits) << 16;
  float value;
  std::memcpy(&value, &wide, sizeof value);
  return value;
}

template <float (*kWiden)(std::uint16_t), class T>
void convert_half_row(const std::byte* p, std::ptrdiff_t stride, std::size_t d, T* out) {
  for (std::size_t j = 0; j < d; ++j, p += stride) {
    std::uint16_t bits;
    std::memcpy(&bits, p, sizeof bits);
    out[j] = kWiden(bits);
  }
}

template <class T>
void read_row(const MatrixView& view, std::size_t i, T* out) {
  const std::byte* p = row_at(view, i);
  switch (view.element) {
    case Element::kBF16: return convert_half_row<bf16_to_float>(p, view.column_stride, view.d, out);
    case Element::kF16: return convert_half_row<half_to_float>(p, view.column_stride, view.d, out);
    case Element::kF32: return convert_row<float>(p, view.column_stride, view.d, out);
    case Element::kF64: return convert_row<double>(p, view.column_stride, view.d, out);
    default: return convert_row<std::int8_t>(p, view.column_stride, view.d, out);
  }
}

template <>
void read_row(const MatrixView& view, std::size_t i, std::int8_t* out) {
  if (view.element == Element::kI8) return convert_row<std::int8_t>(row_at(view, i), view.column_stride, view.d, out);
  const auto* row = reinterpret_cast<const std::uint8_t*>(row_at(view, i));
  active_table().linear->matrix.unpack(view.bits(), row, view.d, out);
}

template <class E>
constexpr Element element_of();
template <>
constexpr Element element_of<float>() { return Element::kF32; }
template <>
constexpr Element element_of<double>() { return Element::kF64; }
template <>
constexpr Element element_of<std::int8_t>() { return Element::kI8; }

template <class E>
bool lies_as(const MatrixView& view) {
  constexpr auto size = static_cast<std::ptrdiff_t>(sizeof(E));
  return view.element == element_of<E>() && (view.d == 1 || view.column_stride == size) &&
         view.row_stride % size == 0 && reinterpret_cast<std::uintptr_t>(view.data) % alignof(E) == 0;
}

}  // namespace

template <class E>
bool RowReader::in_place() const {
  return lies_as<E>(view_);
}

template bool RowReader::in_place<float>() const;
template bool RowReader::in_place<double>() const;
template bool RowReader::in_place<std::int8_t>() const;

template <>
bool RowReader::in_place<Nibbles>() const {
  return true;
}

template <class E>
Rows<E> RowReader::read(std::size_t begin, std::size_t n) {
  if (lies_as<E>(view_))
    return {reinterpret_cast<const E*>(row_at(view_, begin)), view_.row_stride / static_cast<std::ptrdiff_t>(sizeof(E))};
  scratch_.resize((n * view_.d * sizeof(E) + sizeof(double) - 1) / sizeof(double));
  E* out = reinterpret_cast<E*>(scratch_.data());
  for (std::size_t i = 0; i < n; ++i) read_row<E>(view_, begin + i, out + i * view_.d);
  return {out, static_cast<std::ptrdiff_t>(view_.d)};
}

template <>
Rows<Nibbles> RowReader::read<Nibbles>(std::size_t begin, std::size_t) {
  return {reinterpret_cast<const Nibbles*>(row_at(view_, begin)), view_.row_stride};
}

template Rows<float> RowReader::read<float>(std::size_t, std::size_t);
template Rows<double> RowReader::read<double>(std::size_t, std::size_t);
template Rows<std::int8_t> RowReader::read<std::int8_t>(std::size_t, std::size_t);

template <class T>
void read_values(const MatrixView& view, std::size_t begin, std::size_t n, T* out) {
  if (view.d == 1) {  // the column as one row
    MatrixView column = view;
    column.d = n;
    column.column_stride = view.row_stride;
    return read_row<T>(column, begin, out);
  }
  for (std::size_t i = 0; i < n; ++i) read_row<T>(view, begin + i, out + i * view.d);
}

namespace {

constexpr std::size_t kTakenAhead = 16;  // rows: about what memory takes to answer

std::size_t value_nbytes(Element element) {
  return element == Element::kF64 ? 8 : element == Element::kF32 ? 4 : element >= Element::kI8 ? 1 : 2;
}

// Rows of values of kBytes each; one call of memcpy a row where they are next to each other, and none where there is one.
template <std::size_t kBytes>
void take_values(const MatrixView& view, const std::int64_t* index, std::size_t n, std::size_t known, std::size_t row_nbytes,
                 std::byte* out) {
  const bool packed = view.element > Element::kI8;
  const bool apart = !packed && (view.d == 1 || view.column_stride != static_cast<std::ptrdiff_t>(kBytes));
  for (std::size_t i = 0; i < n; ++i, out += row_nbytes) {
    if (i + kTakenAhead < known) {
      const std::byte* next = row_at(view, static_cast<std::size_t>(index[i + kTakenAhead]));
      for (std::size_t at = 0; at < row_nbytes; at += 64) __builtin_prefetch(next + at);
    }
    const std::byte* p = row_at(view, static_cast<std::size_t>(index[i]));
    if (!apart) std::memcpy(out, p, row_nbytes);
    else
      for (std::size_t j = 0; j < view.d; ++j) std::memcpy(out + j * kBytes, p + static_cast<std::ptrdiff_t>(j) * view.column_stride, kBytes);
  }
}

}  // namespace

MatrixView take_rows(const MatrixView& view, const std::int64_t* index, std::size_t n, std::size_t known, std::vector<double>& bytes) {
  const std::size_t size = value_nbytes(view.element);
  const std::size_t row_nbytes = view.is_codes() ? (view.d * static_cast<std::size_t>(view.bits()) + 7) / 8 : view.d * size;
  bytes.resize((n * row_nbytes + sizeof(double) - 1) / sizeof(double));
  std::byte* out = reinterpret_cast<std::byte*>(bytes.data());
  switch (size) {
    case 8: take_values<8>(view, index, n, known, row_nbytes, out); break;
    case 4: take_values<4>(view, index, n, known, row_nbytes, out); break;
    case 2: take_values<2>(view, index, n, known, row_nbytes, out); break;
    default: take_values<1>(view, index, n, known, row_nbytes, out);
  }
  MatrixView taken = view;
  taken.data = out;
  taken.n = n;
  taken.row_stride = static_cast<std::ptrdiff_t>(row_nbytes);
  taken.column_stride = static_cast<std::ptrdiff_t>(size);
  return taken;
}

template void read_values<float>(const MatrixView&, std::size_t, std::size_t, float*);
template void read_values<double>(const MatrixView&, std::size_t, std::size_t, double*);

}  // namespace scrimp
