// What ranks on a network compute between messages.
#include <pybind11/stl.h>

#include <optional>
#include <tuple>
#include <vector>

#include "bindings/array_arg.h"
#include "bindings/bind.h"
#include "engine/combine.h"
#include "kernels/low_rank.h"

namespace scrimp {
namespace {

using Payload = std::optional<py::array>;

// (index of the first value that cannot be encoded or -1, whether the result is finite)
py::tuple combine_chunk(const Codec& codec, const py::array& own, const std::vector<Payload>& parts, bool mean, py::array out,
                        const std::tuple<std::uint64_t, std::uint64_t, std::uint64_t>& key, std::optional<py::array> owned,
                        std::optional<py::array> decoded, int threads) {
  Combine what{};
  what.codec = &codec;
  what.own = in_array<float>(own, "own");
  what.n = static_cast<std::size_t>(own.size());
  what.mean = mean;
  const std::size_t nbytes = codec.nbytes(what.n);
  for (const Payload& part : parts) {
    what.parts.push_back(part ? in_array<std::uint8_t>(*part, "parts") : nullptr);
    require(!part || static_cast<std::size_t>(part->size()) == nbytes, "parts must hold ", nbytes, " bytes each");
  }
  what.out = out_array<std::uint8_t>(out, "out", nbytes);
  std::tie(what.seed, what.step, what.first_index) = key;
  if (owned) what.owned = out_array<float>(*owned, "owned", what.n);
  if (decoded) what.decoded = out_array<float>(*decoded, "decoded", what.n);
  what.threads = threads;
  Combined result{};
  {
    py::gil_scoped_release release;
    result = combine(what);
  }
  const py::object failed = result.failed == kAllEncoded ? py::int_(-1) : py::int_(result.failed);
  return py::make_tuple(failed, result.finite);
}

// Matrices are flat: rows and columns follow from the factors.
LowRankRun low_rank_run(const py::array& p, const py::array& q, std::size_t rank) {
  LowRankRun run{};
  require(rank >= 1 && rank <= kLargestRank, "rank must lie in 1…", kLargestRank, ", got ", rank);
  run.rank = rank;
  run.rows = static_cast<std::size_t>(p.size()) / rank;
  run.columns = static_cast<std::size_t>(q.size()) / rank;
  run.p = in_array<float>(p, "p");
  run.q = in_array<float>(q, "q");
  return run;
}

const float* memory_of(const LowRankRun& run, const py::array& m) {
  const auto size = static_cast<std::size_t>(m.size());
  require(size == run.rows * run.columns, "m must hold ", run.rows * run.columns, " values, got ", size);
  return in_array<float>(m, "m");
}

void project(py::array g, const py::array& m, const py::array& p, const py::array& q, std::size_t rank, py::array m_out,
             py::array p_out, int threads) {
  LowRankRun run = low_rank_run(p, q, rank);
  run.g = out_array<float>(g, "g", run.rows * run.columns);
  run.m = memory_of(run, m);
  run.m_out = out_array<float>(m_out, "m_out", run.rows * run.columns);
  run.p_out = out_array<float>(p_out, "p_out", run.rows * rank);
  py::gil_scoped_release release;
  low_rank_project(run, threads);
}

void fold(const py::array& m, const py::array& p, std::size_t rank, py::array q_out, int threads) {
  LowRankRun run = low_rank_run(p, q_out, rank);
  run.m = memory_of(run, m);
  run.q_out = out_array<float>(q_out, "q_out", run.columns * rank);
  py::gil_scoped_release release;
  low_rank_fold(run, threads);
}

void expand(py::array g, const py::array& p, const py::array& q, std::size_t rank, int threads) {
  LowRankRun run = low_rank_run(p, q, rank);
  run.g = out_array<float>(g, "g", run.rows * run.columns);
  py::gil_scoped_release release;
  low_rank_expand(run, threads);
}

void make_orthonormal(py::array p, std::size_t rank) {
  const LowRankRun run = low_rank_run(p, p, rank);
  float* values = out_array<float>(p, "p", run.rows * rank);
  py::gil_scoped_release release;
  orthonormalize(values, run.rows, rank);
}

}  // namespace

void bind_wire(py::module_& m) {
  using namespace py::literals;
  m.def("low_rank_project", &project, "g"_a, "m"_a, "p"_a, "q"_a, "rank"_a, "m_out"_a, "p_out"_a,
        "threads"_a = 0);
  m.def("low_rank_fold", &fold, "m"_a, "p"_a, "rank"_a, "q_out"_a, "threads"_a = 0);
  m.def("low_rank_expand", &expand, "g"_a, "p"_a, "q"_a, "rank"_a, "threads"_a = 0);
  m.def("orthonormalize", &make_orthonormal, "p"_a, "rank"_a);
  m.def("combine_chunk", &combine_chunk, "codec"_a, "own"_a, "parts"_a, "mean"_a, "out"_a, "key"_a, "owned"_a = py::none(),
        "decoded"_a = py::none(), "threads"_a = 0);
}

}  // namespace scrimp
