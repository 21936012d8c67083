#include "bindings/bind.h"

PYBIND11_MODULE(_core, m, pybind11::mod_gil_not_used()) {
  m.doc() = "Native core of scrimp. Internal: the public names are those of the package.";
  scrimp::bind_core(m);
  scrimp::bind_codecs(m);
  scrimp::bind_engine(m);
  scrimp::bind_linear(m);
  scrimp::bind_matmul(m);
  scrimp::bind_matrix(m);
  scrimp::bind_steps(m);
  scrimp::bind_wire(m);
}
