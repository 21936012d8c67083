#pragma once
// NumPy arrays as the matrices that training reads: bfloat16, float16/32/64 or int8 with any strides, or packed codes.
#include <pybind11/stl.h>  // std::optional

#include <optional>

#include "bindings/array_arg.h"
#include "kernels/rows.h"

namespace scrimp {

inline Element element_of(const py::array& a, const char* name) {
  const py::dtype dtype = a.dtype();
  if (dtype.equal(py::dtype::of<float>())) return Element::kF32;
  if (dtype.equal(py::dtype::of<double>())) return Element::kF64;
  if (dtype.equal(py::dtype::of<std::int8_t>())) return Element::kI8;
  if (dtype.kind() == 'f' && dtype.itemsize() == 2 && dtype.byteorder() == '=') return Element::kF16;
  if (dtype.itemsize() == 2 && py::cast<std::string>(py::str(dtype)) == "bfloat16") return Element::kBF16;  // of ml_dtypes
  throw py::type_error(std::string(name) + " must be a bfloat16, float16, float32, float64 or int8 array of native " +
                       "byte order, got " + describe(a).text());
}

// [n, d], or [n] as [n, 1].
inline MatrixView matrix_view(const py::array& a, const char* name) {
  require(a.ndim() == 1 || a.ndim() == 2, name, " must have 1 or 2 dimensions, got ", describe(a));
  MatrixView view;
  view.element = element_of(a, name);
  view.data = static_cast<const std::byte*>(a.data());
  view.n = static_cast<std::size_t>(a.shape(0));
  view.d = a.ndim() == 2 ? static_cast<std::size_t>(a.shape(1)) : 1;
  view.row_stride = a.strides(0);
  view.column_stride = a.ndim() == 2 ? a.strides(1) : 0;
  return view;
}

inline MatrixView column_view(const std::optional<py::array>& a, const char* name, std::size_t n) {
  if (!a) return {};
  const MatrixView view = matrix_view(*a, name);
  require(view.n == n, name, " must have one row for each of the ", n, " rows of X, got ", describe(*a));
  require(view.element != Element::kI8, name, " must be a float array, got ", describe(*a));
  return view;
}

// Codes of `bits` bits: int8 [n, d], or uint8 [n, packed_row_nbytes(d, bits)].
inline MatrixView code_view(const py::array& a, const char* name, int bits, std::size_t d) {
  require(bits == 8 || bits == 4 || bits == 2 || bits == 1, "bits must be 8, 4, 2 or 1, got ", bits);
  if (bits == 8) {
    in_array<std::int8_t>(a, name, 2);
    require(static_cast<std::size_t>(a.shape(1)) == d, name, " must have ", d, " columns, got ", describe(a));
    return matrix_view(a, name);
  }
  in_array<std::uint8_t>(a, name, 2);
  const std::size_t row_nbytes = (d * static_cast<std::size_t>(bits) + 7) / 8;
  require(static_cast<std::size_t>(a.shape(1)) == row_nbytes, name, " must have rows of ", row_nbytes, " bytes, got ", describe(a));
  MatrixView view;
  view.element = bits == 4 ? Element::kU4 : bits == 2 ? Element::kU2 : Element::kU1;
  view.data = static_cast<const std::byte*>(a.data());
  view.n = static_cast<std::size_t>(a.shape(0));
  view.d = d;
  view.row_stride = a.strides(0);
  return view;
}

// X of a product: bits = 0 takes float rows and plain int8 rows, else codes of d columns.
inline MatrixView rows_view(const py::array& a, int bits, std::size_t d) {
  const MatrixView view = bits ? code_view(a, "X", bits, d) : matrix_view(a, "X");
  require(view.d == d, "X must have ", d, " columns, got ", describe(a));
  return view;
}

inline const double* optional_doubles(const std::optional<py::array>& a, const char* name, std::size_t size) {
  if (!a) return nullptr;
  const double* data = in_array<double>(*a, name, -1);
  require(static_cast<std::size_t>(a->size()) == size, name, " must hold ", size, " values, got ", a->size());
  return data;
}

}  // namespace scrimp
