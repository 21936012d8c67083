#pragma once
// The only place that turns NumPy arrays into pointers and views. It checks and never converts or copies; a binding is
// four steps: view, output, release the GIL, kernel.
#include <pybind11/numpy.h>

#include <cstdint>
#include <ostream>
#include <string>

#include "core/check.h"
#include "core/view.h"

namespace scrimp {

namespace py = pybind11;

// What came, for errors: put into words only when it is written, for NumPy takes 8 µs to name a dtype.
struct Described {
  const py::array& array;

  std::string text() const {
    std::string text = py::cast<std::string>(py::str(array.dtype()));
    text += py::cast<std::string>(py::str(array.attr("shape")));
    return (array.flags() & py::array::c_style) ? text : text + " (not contiguous)";
  }
};

inline Described describe(const py::array& a) { return {a}; }
inline std::ostream& operator<<(std::ostream& out, const Described& what) { return out << what.text(); }

// Whether an array holds T in native byte order. The number of the type answers at once; dtypes that are equal under
// another number (long and long long) are compared.
template <class T>
inline bool holds(const py::array& a) {
  const py::dtype dtype = a.dtype();
  if (dtype.num() == py::dtype::num_of<T>() && (dtype.byteorder() == '=' || dtype.byteorder() == '|')) return true;
  return dtype.equal(py::dtype::of<T>());
}

// A contiguous array of T with `ndim` dimensions (-1: any), for reading.
template <class T>
inline const T* in_array(const py::array& a, const char* name, int ndim = 1) {
  const bool fits = holds<T>(a) && (ndim < 0 || a.ndim() == ndim) && (a.flags() & py::array::c_style);
  if (!fits)
    require(false, name, " must be a contiguous ", ndim < 0 ? std::string() : std::to_string(ndim) + "-D ",
            std::string(py::str(py::dtype::of<T>())), " array, got ", describe(a));
  return static_cast<const T*>(a.data());
}

// The same for writing, with a required number of elements.
template <class T>
inline T* out_array(py::array& a, const char* name, std::size_t size, int ndim = 1) {
  in_array<T>(a, name, ndim);
  require(a.writeable(), name, " is read-only");
  require(static_cast<std::size_t>(a.size()) == size, name, " must hold ", size, " values, got ", a.size());
  return static_cast<T*>(a.mutable_data());
}

// Any float16, float32 or float64 array of native byte order, whatever its shape and strides.
inline FloatView float_view(const py::array& a, const char* name) {
  FloatView view;
  if (holds<float>(a)) {
    view.type = FloatType::kF32;
  } else if (holds<double>(a)) {
    view.type = FloatType::kF64;
  } else if (const py::dtype dtype = a.dtype(); dtype.kind() == 'f' && dtype.itemsize() == 2 && dtype.byteorder() == '=') {
    view.type = FloatType::kF16;
  } else {
    throw py::type_error(std::string(name) + " must be a float16, float32 or float64 array of native byte order, got " +
                         describe(a).text());
  }
  require(a.ndim() <= FloatView::kMaxDims, name, " must have at most ", FloatView::kMaxDims, " dimensions, got ", a.ndim());
  view.data = static_cast<const std::byte*>(a.data());
  view.ndim = static_cast<int>(a.ndim());
  for (int d = 0; d < view.ndim; ++d) {
    view.shape[d] = static_cast<std::size_t>(a.shape(d));
    view.strides[d] = a.strides(d);
  }
  return view;
}

// Refuses an output that shares bytes with an input: it would be overwritten before it is read.
inline void require_apart(const py::array& input, const char* input_name, const py::array& out, const char* out_name) {
  if (input.size() == 0 || out.size() == 0) return;
  const auto* begin = static_cast<const std::byte*>(input.data());
  const std::byte* end = begin + input.itemsize();
  for (py::ssize_t d = 0; d < input.ndim(); ++d) {
    const py::ssize_t reach = (input.shape(d) - 1) * input.strides(d);
    (reach < 0 ? begin : end) += reach;
  }
  const auto* written = static_cast<const std::byte*>(out.data());
  require(written + out.nbytes() <= begin || end <= written, out_name, " must not overlap ", input_name);
}

}  // namespace scrimp
