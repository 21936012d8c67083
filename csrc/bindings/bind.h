#pragma once
// One function an area; each adds its names to the module.
#include <pybind11/pybind11.h>

namespace scrimp {

void bind_core(pybind11::module_& m);
void bind_codecs(pybind11::module_& m);
void bind_engine(pybind11::module_& m);
void bind_linear(pybind11::module_& m);
void bind_matmul(pybind11::module_& m);
void bind_matrix(pybind11::module_& m);
void bind_steps(pybind11::module_& m);
void bind_wire(pybind11::module_& m);

}  // namespace scrimp
