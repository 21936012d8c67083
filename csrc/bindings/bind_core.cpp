#include "bindings/bind.h"
#include "core/parallel.h"
#include "kernels/table.h"

namespace scrimp {

void bind_core(pybind11::module_& m) {
  using namespace pybind11::literals;
  m.def("isa", [] { return active_table().isa; });
  m.def("set_default_threads", &set_default_threads, "threads"_a);
  m.def("default_threads", &default_threads);
}

}  // namespace scrimp
