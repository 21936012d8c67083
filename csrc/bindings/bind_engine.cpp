#include <vector>

#include "bindings/array_arg.h"
#include "bindings/bind.h"
#include "engine/all_reduce.h"
#include "engine/group.h"
#include "engine/os.h"

namespace scrimp {
namespace {

void check_signals() {
  py::gil_scoped_acquire gil;
  if (PyErr_CheckSignals() != 0) throw py::error_already_set();
}

std::unique_ptr<Group> join(int fd, int rank, double timeout_s) {
  auto group = std::make_unique<Group>(fd, rank, timeout_s);
  group->on_wait(&check_signals);
  return group;
}

// [(peer, uint8 array)] as messages. The arrays are kept alive by the caller's sequences.
std::vector<Message> messages(const py::sequence& pairs, const char* name, bool writable) {
  std::vector<Message> out;
  for (const py::handle pair : pairs) {
    auto [peer, array] = pair.cast<std::pair<int, py::array>>();
    const std::uint8_t* data = in_array<std::uint8_t>(array, name);
    require(!writable || array.writeable(), name, " is read-only");
    out.push_back({peer, reinterpret_cast<std::byte*>(const_cast<std::uint8_t*>(data)), static_cast<std::size_t>(array.size())});
  }
  return out;
}

void exchange(Group& group, const py::sequence& sends, const py::sequence& recvs, std::uint32_t tag, const std::string& label) {
  const std::vector<Message> out = messages(sends, "sends", false), in = messages(recvs, "recvs", true);
  py::gil_scoped_release release;
  group.exchange(out, in, tag, label);
}

Feedback feedback_kind(const std::string& name) {
  if (name == "ef14") return Feedback::kEf14;
  if (name == "ef21") return Feedback::kEf21;
  require(name == "none", "unknown feedback kind '", name, "'");
  return Feedback::kNone;
}

py::tuple outcome_tuple(const Outcome& outcome) {
  const char* kind = outcome.kind == Outcome::kFinite ? "finite" : outcome.kind == Outcome::kFailed ? "failed" : "nonfinite";
  return py::make_tuple(kind, outcome.rank, outcome.index);
}

ReduceCall reduce_call(const py::array& x, bool mean, bool write_nonfinite, std::uint32_t tag, const std::string& label) {
  return {static_cast<std::size_t>(x.size()), mean, write_nonfinite, tag, label};
}

float* state_array(const py::dict& state, const char* role, std::size_t size) {
  if (!state.contains(role)) return nullptr;
  py::array array = state[role].cast<py::array>();
  return out_array<float>(array, role, size);
}

py::tuple all_reduce_encoded(Group& group, py::array x, const Codec& codec, bool mean, bool write_nonfinite, std::uint32_t tag,
                             const std::string& label, const py::tuple& key, const std::string& feedback,
                             const py::dict& state) {
  const std::size_t n = static_cast<std::size_t>(x.size());
  const ReduceCall call = reduce_call(x, mean, write_nonfinite, tag, label);
  EncodedReduce what{out_array<float>(x, "x", n), &codec, 0, 0, 0, 0};
  std::tie(what.scatter_seed, what.gather_seed, what.step, what.first_index) =
      key.cast<std::tuple<std::uint64_t, std::uint64_t, std::uint64_t, std::uint64_t>>();
  what.feedback = feedback_kind(feedback);
  what.sent = state_array(state, "sent", n);
  what.owned = state_array(state, "owned", shard(n, group.size(), group.rank(), codec.kernels().block).size());
  what.estimate = state_array(state, "estimate", n);
  require(what.feedback == Feedback::kNone || (what.sent && what.owned), "feedback needs its state");
  require(what.feedback != Feedback::kEf21 || what.estimate, "ef21 needs its estimate");
  Outcome outcome;
  {
    py::gil_scoped_release release;
    outcome = all_reduce(group, call, what);
  }
  return outcome_tuple(outcome);
}

template <class T>
Outcome reduce_as(Group& group, const ReduceCall& call, py::array& x) {
  T* values = out_array<T>(x, "x", call.n);
  py::gil_scoped_release release;
  return all_reduce_raw(group, call, values);
}

py::tuple all_reduce_exact(Group& group, py::array x, bool mean, bool write_nonfinite, std::uint32_t tag, const std::string& label) {
  const ReduceCall call = reduce_call(x, mean, write_nonfinite, tag, label);
  const char kind = x.dtype().kind();
  require(kind == 'f' || (kind == 'i' && !mean), "x must hold floats, or integers to be summed, got ", describe(x));
  const bool wide = x.itemsize() == 8;
  if (kind == 'f') return outcome_tuple(wide ? reduce_as<double>(group, call, x) : reduce_as<float>(group, call, x));
  return outcome_tuple(wide ? reduce_as<std::int64_t>(group, call, x) : reduce_as<std::int32_t>(group, call, x));
}

const char* cause_name(Cause cause) {
  switch (cause) {
    case Cause::kNone: return "";
    case Cause::kDied: return "died";
    case Cause::kFailed: return "failed";
    case Cause::kStuck: return "stuck";
    case Cause::kFinished: return "finished";
    case Cause::kMismatch: return "mismatch";
    case Cause::kInterrupted: return "interrupted";
  }
  return "";
}

py::tuple ending(const Group& group) {
  const Ending e = group.ending();
  return py::make_tuple(cause_name(e.cause), e.rank);
}

void translate(std::exception_ptr error) {
  try {
    if (error) std::rethrow_exception(error);
  } catch (const PeerError& e) {
    py::set_error(py::module_::import("scrimp.errors").attr("CommError"), e.what());
  }
}

}  // namespace

void bind_engine(py::module_& m) {
  using namespace py::literals;
  using release = py::call_guard<py::gil_scoped_release>;
  py::register_local_exception_translator(&translate);
  m.def("engine_supported", &engine_supported);
  m.def("die_with_parent", &die_with_parent, "parent"_a);
  m.def("usable_cores", &usable_cores);
  py::class_<Group> group(m, "LocalGroup");
  group.def_static("create", &Group::create, "size"_a, "ring_nbytes"_a = 0)
      .def_static("join", &join, "fd"_a, "rank"_a, "timeout_s"_a)
      .def_property_readonly("size", &Group::size)
      .def_property_readonly("rank", &Group::rank)
      .def_property_readonly("fd", &Group::fd)
      .def("start", &Group::start, "timeout_s"_a, "watch"_a = true, release())
      .def("leave", &Group::leave, "failed"_a)
      .def("barrier", &Group::barrier, "label"_a, "tag"_a = 0, release())
      .def("exchange", &exchange, "sends"_a, "recvs"_a, "tag"_a, "label"_a)
      .def("all_reduce_encoded", &all_reduce_encoded, "x"_a, "codec"_a, "mean"_a, "write_nonfinite"_a, "tag"_a, "label"_a,
           "key"_a, "feedback"_a, "state"_a)
      .def("all_reduce_raw", &all_reduce_exact, "x"_a, "mean"_a, "write_nonfinite"_a, "tag"_a, "label"_a)
      .def("end_died", [](Group& g, int rank) { g.end(Cause::kDied, rank); }, "rank"_a)
      .def("ending", &ending)
      .def("is_done", [](const Group& g, int rank) { return g.phase(rank) == Phase::kDone; }, "rank"_a)
      .def("has_failed", [](const Group& g, int rank) { return g.phase(rank) == Phase::kFailed; }, "rank"_a)
      .def("pid", &Group::pid, "rank"_a);
  group.attr("FRAME_NBYTES") = Group::kFrameNbytes;
}

}  // namespace scrimp
