#include <stdexcept>
#include <vector>

#include "bindings/array_arg.h"
#include "bindings/bind.h"
#include "engine/collectives.h"
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

// A collective of one thread, without the GIL.
class Turn {
 public:
  explicit Turn(Group& group) : group_(take(group)) {}
  ~Turn() { group_.busy().store(false); }
  Turn(const Turn&) = delete;
  Turn& operator=(const Turn&) = delete;

 private:
  static Group& take(Group& group) {
    if (group.busy().exchange(true)) throw std::runtime_error("another thread of this process is in a collective of the same group");
    return group;
  }
  Group& group_;
  py::gil_scoped_release release_;
};

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
  const Turn turn(group);
  group.exchange(out, in, tag, label);
}

void barrier(Group& group, const std::string& label, std::uint32_t tag) {
  const Turn turn(group);
  group.barrier(label, tag);
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

// What is common to all calls, as Python says it: (mean, write_nonfinite, tag, label, block, undo).
using CallArgs = std::tuple<bool, bool, std::uint32_t, std::string, std::size_t, bool>;

ReduceCall reduce_call(std::size_t n, const CallArgs& args) {
  const auto& [mean, write_nonfinite, tag, label, block, undo] = args;
  require(block > 0, "block must be positive");
  return {n, mean, write_nonfinite, tag, label, block, undo};
}

float* state_array(const py::dict& state, const char* role, std::size_t size) {
  if (!state.contains(role)) return nullptr;
  py::array array = state[role].cast<py::array>();
  return out_array<float>(array, role, size);
}

// (seed of the first leg, of the second, step, first index)
using KeyArgs = std::tuple<std::uint64_t, std::uint64_t, std::uint64_t, std::uint64_t>;

EncodedReduce encoded(const float* x, const Codec& codec, const KeyArgs& key) {
  EncodedReduce what{const_cast<float*>(x), &codec, 0, 0, 0, 0};
  std::tie(what.scatter_seed, what.gather_seed, what.step, what.first_index) = key;
  return what;
}

void take_state(EncodedReduce& what, const std::string& feedback, const py::dict& state, std::size_t n, std::size_t own) {
  what.feedback = feedback_kind(feedback);
  what.sent = state_array(state, "sent", n);
  what.owned = state_array(state, "owned", own);
  what.estimate = state_array(state, "estimate", n);
}

std::size_t own_size(const Group& group, const ReduceCall& call) {
  return shard(call.n, group.size(), group.rank(), call.block).size();
}

template <class Body>
py::tuple unlocked(Group& group, Body body) {
  Outcome outcome;
  {
    const Turn turn(group);
    outcome = body();
  }
  return outcome_tuple(outcome);
}

py::tuple all_reduce_encoded(Group& group, py::array x, const Codec& codec, const CallArgs& args, const KeyArgs& key,
                             const std::string& feedback, const py::dict& state) {
  const ReduceCall call = reduce_call(static_cast<std::size_t>(x.size()), args);
  EncodedReduce what = encoded(out_array<float>(x, "x", call.n), codec, key);
  take_state(what, feedback, state, call.n, own_size(group, call));
  require(what.feedback == Feedback::kNone || (what.sent && what.owned), "feedback needs its state");
  require(what.feedback != Feedback::kEf21 || what.estimate, "ef21 needs its estimate");
  return unlocked(group, [&] { return all_reduce(group, call, what); });
}

py::tuple reduce_scatter_encoded(Group& group, const py::array& x, py::array out, const Codec& codec, const CallArgs& args,
                                 const KeyArgs& key, const std::string& feedback, const py::dict& state) {
  const ReduceCall call = reduce_call(static_cast<std::size_t>(x.size()), args);
  EncodedReduce what = encoded(in_array<float>(x, "x"), codec, key);
  take_state(what, feedback, state, call.n, own_size(group, call));
  require(what.feedback == Feedback::kNone || what.sent, "feedback needs its state");
  require(what.feedback != Feedback::kEf21 || what.owned, "ef21 needs what the peers have sent");
  float* shard_out = out_array<float>(out, "out", own_size(group, call));
  return unlocked(group, [&] { return reduce_scatter(group, call, what, shard_out); });
}

py::tuple all_gather_encoded(Group& group, const py::array& mine, py::array out, const Codec& codec, const CallArgs& args,
                             const KeyArgs& key) {
  const ReduceCall call = reduce_call(static_cast<std::size_t>(out.size()), args);
  const EncodedReduce what = encoded(in_array<float>(mine, "x"), codec, key);
  require(static_cast<std::size_t>(mine.size()) == own_size(group, call), "x must hold this rank's shard");
  float* values = out_array<float>(out, "out", call.n);
  return unlocked(group, [&] { return all_gather(group, call, what, values); });
}

py::tuple broadcast_encoded(Group& group, py::array x, int root, const Codec& codec, const CallArgs& args, const KeyArgs& key) {
  const ReduceCall call = reduce_call(static_cast<std::size_t>(x.size()), args);
  const EncodedReduce what = encoded(out_array<float>(x, "x", call.n), codec, key);
  require(root >= 0 && root < group.size(), "root must be in 0…", group.size() - 1, ", got ", root);
  return unlocked(group, [&] { return broadcast(group, call, what, root); });
}

// Calls body<T> with x's type: float32, float64, or int32, int64 to be summed.
template <class Body>
py::tuple by_type(const py::array& x, bool mean, Body body) {
  const char kind = x.dtype().kind();
  require(kind == 'f' || (kind == 'i' && !mean), "x must hold floats, or integers to be summed, got ", describe(x));
  const bool wide = x.itemsize() == 8;
  if (kind == 'f') return wide ? body(double{}) : body(float{});
  return wide ? body(std::int64_t{}) : body(std::int32_t{});
}

py::tuple all_reduce_exact(Group& group, py::array x, const CallArgs& args) {
  const ReduceCall call = reduce_call(static_cast<std::size_t>(x.size()), args);
  return by_type(x, call.mean, [&](auto type) {
    auto* values = out_array<decltype(type)>(x, "x", call.n);
    return unlocked(group, [&] { return all_reduce_raw(group, call, values); });
  });
}

py::tuple reduce_scatter_exact(Group& group, const py::array& x, py::array out, const CallArgs& args) {
  const ReduceCall call = reduce_call(static_cast<std::size_t>(x.size()), args);
  return by_type(x, call.mean, [&](auto type) {
    const auto* values = in_array<decltype(type)>(x, "x");
    auto* shard_out = out_array<decltype(type)>(out, "out", own_size(group, call));
    return unlocked(group, [&] { return reduce_scatter_raw(group, call, values, shard_out); });
  });
}

void all_gather_exact(Group& group, const py::array& mine, py::array out, const CallArgs& args) {
  const ReduceCall call = reduce_call(static_cast<std::size_t>(out.size()), args);
  const auto* bytes = reinterpret_cast<const std::byte*>(in_array<std::uint8_t>(mine, "x"));
  require(static_cast<std::size_t>(mine.size()) == own_size(group, call), "x must hold this rank's shard");
  auto* into = reinterpret_cast<std::byte*>(out_array<std::uint8_t>(out, "out", call.n));
  const Turn turn(group);
  all_gather_raw(group, call, bytes, into);
}

void broadcast_exact(Group& group, py::array x, int root, const CallArgs& args) {
  const ReduceCall call = reduce_call(static_cast<std::size_t>(x.size()), args);
  auto* bytes = reinterpret_cast<std::byte*>(out_array<std::uint8_t>(x, "x", call.n));
  require(root >= 0 && root < group.size(), "root must be in 0…", group.size() - 1, ", got ", root);
  const Turn turn(group);
  broadcast_raw(group, call, bytes, root);
}

// An array in the segment; it keeps its pages, and the file that they belong to.
py::array empty(const Group& group, const py::tuple& extents, const py::dtype& dtype) {
  require(group.arena() != nullptr, "a supervisor has no arrays");
  std::vector<py::ssize_t> shape;
  std::size_t nbytes = static_cast<std::size_t>(dtype.itemsize());
  for (const py::handle extent : extents) {
    shape.push_back(extent.cast<py::ssize_t>());
    require(shape.back() >= 0, "shape must not be negative, got ", shape.back());
    nbytes *= static_cast<std::size_t>(shape.back());
  }
  auto memory = std::make_unique<std::shared_ptr<std::byte>>(group.arena()->allocate(nbytes));
  std::byte* data = memory->get();
  const py::capsule owner(memory.release(), [](void* p) { delete static_cast<std::shared_ptr<std::byte>*>(p); });
  return py::array(dtype, std::move(shape), data, owner);
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
      .def("barrier", &barrier, "label"_a, "tag"_a = 0)
      .def("exchange", &exchange, "sends"_a, "recvs"_a, "tag"_a, "label"_a)
      .def("all_reduce_encoded", &all_reduce_encoded, "x"_a, "codec"_a, "call"_a, "key"_a, "feedback"_a, "state"_a)
      .def("reduce_scatter_encoded", &reduce_scatter_encoded, "x"_a, "out"_a, "codec"_a, "call"_a, "key"_a, "feedback"_a,
           "state"_a)
      .def("all_gather_encoded", &all_gather_encoded, "x"_a, "out"_a, "codec"_a, "call"_a, "key"_a)
      .def("broadcast_encoded", &broadcast_encoded, "x"_a, "root"_a, "codec"_a, "call"_a, "key"_a)
      .def("all_reduce_raw", &all_reduce_exact, "x"_a, "call"_a)
      .def("reduce_scatter_raw", &reduce_scatter_exact, "x"_a, "out"_a, "call"_a)
      .def("all_gather_raw", &all_gather_exact, "x"_a, "out"_a, "call"_a)
      .def("broadcast_raw", &broadcast_exact, "x"_a, "root"_a, "call"_a)
      .def("empty", &empty, "shape"_a, "dtype"_a)
      .def("arrays_nbytes", [](const Group& g) { return g.arena() ? g.arena()->nbytes() : 0; })
      .def("end_died", [](Group& g, int rank) { g.end(Cause::kDied, rank); }, "rank"_a)
      .def("ending", &ending)
      .def("is_done", [](const Group& g, int rank) { return g.phase(rank) == Phase::kDone; }, "rank"_a)
      .def("has_failed", [](const Group& g, int rank) { return g.phase(rank) == Phase::kFailed; }, "rank"_a)
      .def("pid", &Group::pid, "rank"_a);
  group.attr("FRAME_NBYTES") = Group::kFrameNbytes;
}

}  // namespace scrimp
