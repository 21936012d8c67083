#include "engine/group.h"

#include <algorithm>
#include <bit>
#include <chrono>
#include <new>
#include <thread>
#include <vector>

#include "core/check.h"
#include "engine/os.h"
#include "engine/watcher.h"

namespace scrimp {
namespace {

// Measured on two cores: 2,000 pauses cover a peer that is on its way and cost 1 % of a core for one that is 5 ms late.
constexpr int kSpins = 2000;
constexpr int kYields = 20;
constexpr int kSliceMs = 100;  // one sleep at most; a stopped and resumed machine counts as one slice
constexpr std::size_t kMaxRingNbytes = 256 * 1024, kMinRingNbytes = 4096, kAllRingsNbytes = std::size_t{64} << 20;
constexpr int kLingerMs = 200;  // a copy of 4 GB; only after an error
constexpr std::size_t kLargeOutboxNbytes = std::size_t{4} << 20;
constexpr std::size_t kThreadOutboxNbytes = std::size_t{64} << 20;

std::size_t choose_ring_nbytes(int size) {
  const std::size_t n_rings = std::max(1, size * (size - 1));
  return std::clamp(std::bit_floor(kAllRingsNbytes / n_rings), kMinRingNbytes, kMaxRingNbytes);
}

std::size_t round_up(std::size_t n, std::size_t to) { return (n + to - 1) / to * to; }

void cpu_pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

std::string with_peer(std::string label, int peer) {
  for (std::size_t at; (at = label.find("%p")) != std::string::npos;) label.replace(at, 2, std::to_string(peer));
  return label;
}

}  // namespace

Layout Layout::of(int size, std::size_t ring_nbytes) {
  const std::size_t n = static_cast<std::size_t>(size);
  Layout layout;
  layout.ranks = sizeof(Control);
  layout.rings = layout.ranks + n * sizeof(RankState);
  layout.bytes = round_up(layout.rings + n * n * sizeof(RingState), 4096);
  layout.total = layout.bytes + n * n * ring_nbytes;
  return layout;
}

std::unique_ptr<Group> Group::create(int size, std::size_t ring_nbytes) {
  require(size >= 1 && size <= kMaxSize, "workers must be in 1…", kMaxSize, ", got ", size);
  if (!engine_supported()) unsupported_engine();
  if (!ring_nbytes) ring_nbytes = choose_ring_nbytes(size);
  require(std::has_single_bit(ring_nbytes), "ring_nbytes must be a power of two, got ", ring_nbytes);
  Segment segment = Segment::create(Layout::of(size, ring_nbytes).total);
  auto* control = new (segment.data()) Control{};
  control->size = size;
  control->ring_nbytes = ring_nbytes;
  control->cores = usable_cores();
  control->magic = kControlMagic;
  return std::unique_ptr<Group>(new Group(std::make_shared<Segment>(std::move(segment)), kSupervisor, 0));
}

Group::Group(int fd, int rank, double timeout_s)
    : Group(std::make_shared<Segment>(Segment::open(fd)), rank, timeout_s) {
  require(rank >= 0 && rank < size(), "rank must be in 0…", size() - 1, ", got ", rank);
  require(timeout_s > 0, "timeout must be positive, got ", timeout_s);
}

std::vector<std::unique_ptr<Group>> Group::create_threads(int size, double timeout_s, std::size_t ring_nbytes) {
  const std::unique_ptr<Group> supervisor = create(size, ring_nbytes);
  // Mapped once and for all: a thread that grew an outbox would pull it away from the others.
  for (Extent& outbox : *supervisor->outboxes_) outbox.map(kThreadOutboxNbytes);
  std::vector<std::unique_ptr<Group>> groups;
  for (int rank = 0; rank < size; ++rank) {
    groups.push_back(std::unique_ptr<Group>(new Group(supervisor->segment_, rank, timeout_s)));
    groups.back()->outboxes_ = supervisor->outboxes_;
  }
  return groups;
}

Group::Group(std::shared_ptr<const Segment> segment, int rank, double timeout_s)
    : segment_(std::move(segment)), control_(reinterpret_cast<Control*>(segment_->data())), rank_(rank), timeout_s_(timeout_s) {
  require(segment_->nbytes() >= sizeof(Control) && control_->magic == kControlMagic, "not a segment of scrimp");
  const Layout layout = Layout::of(size(), control_->ring_nbytes);
  require(segment_->nbytes() >= layout.total, "the segment is cut short");
  ranks_ = reinterpret_cast<RankState*>(segment_->data() + layout.ranks);
  rings_ = reinterpret_cast<RingState*>(segment_->data() + layout.rings);
  bytes_ = segment_->data() + layout.bytes;
  outboxes_ = std::make_shared<std::vector<Extent>>();
  for (int i = 0; i < Layout::kOutboxes * size(); ++i) outboxes_->emplace_back(fd(), Layout::outbox(i));
  for (int peer = 0; peer < size(); ++peer) arrays_.emplace_back(fd(), Layout::arena(size(), peer));
  if (rank_ != kSupervisor) arena_ = std::make_shared<Arena>(segment_, Layout::arena(size(), rank_));
  spins_ = size() <= usable_cores() ? kSpins : 0;
}

Group::~Group() = default;

std::byte* Group::ring_data(int from, int to) const { return bytes_ + (from * size() + to) * control_->ring_nbytes; }

void Group::ring_doorbell(int rank) {
  RankState& peer = state(rank);
  if (!peer.sleeping.load()) return;  // it looks again after it has said that it sleeps
  peer.doorbell.fetch_add(1);
  futex_wake_all(peer.doorbell);
}

void Group::ring_all() {
  for (int rank = 0; rank < size(); ++rank)
    if (rank != rank_) ring_doorbell(rank);
}

void Group::end(Cause cause, int rank) {
  std::uint64_t none = 0;
  const std::uint64_t ending = static_cast<std::uint64_t>(cause) << 32 | static_cast<std::uint32_t>(rank);
  control_->ending.compare_exchange_strong(none, ending);
  ring_all();
}

Ending Group::ending() const {
  const std::uint64_t ending = control_->ending.load();
  return {static_cast<Cause>(ending >> 32), static_cast<int>(static_cast<std::uint32_t>(ending))};
}

Phase Group::phase(int rank) const { return static_cast<Phase>(state(rank).phase.load()); }

int Group::pid(int rank) const { return state(rank).pid.load(); }

void Group::raise(Cause cause, int culprit, const std::string& label) {
  const std::string who = "rank " + std::to_string(culprit), me = "rank " + std::to_string(rank_);
  const std::string in = "; " + me + " was in " + with_peer(label, culprit);
  switch (cause) {
    case Cause::kDied: throw PeerError(who + " (pid " + std::to_string(pid(culprit)) + ") died" + in);
    case Cause::kFailed: throw PeerError(who + " raised an error" + in);
    case Cause::kStuck: throw PeerError(who + " is stuck" + in);
    case Cause::kFinished: throw PeerError(who + " has returned and takes no part" + in);
    case Cause::kMismatch: throw PeerError((culprit == rank_ ? "a peer of " + who : who) + " is in another collective, or in one of another length" + in);
    default: throw PeerError(who + " was interrupted" + in);
  }
}

void Group::check_ending(const std::string& label) {
  const Ending e = ending();
  if (e.cause != Cause::kNone) raise(e.cause, e.rank, label);
}

void Group::wait(Waitable& what, double timeout_s, const std::string& label) {
  double waited_s = 0;
  for (int idle = 0;; ++idle) {
    Progress progress = what.advance();
    if (progress == Progress::kIdle) {
      check_ending(label);
      if (idle < spins_) {
        cpu_pause();
      } else if (idle < spins_ + kYields) {
        if (idle == spins_) ++long_waits_;
        std::this_thread::yield();
      } else {
        progress = sleep(what, waited_s, timeout_s, label);
      }
    }
    if (progress == Progress::kDone) return;
    if (progress == Progress::kMoved) waited_s = idle = 0;
  }
}

Progress Group::sleep(Waitable& what, double& waited_s, double timeout_s, const std::string& label) {
  using clock = std::chrono::steady_clock;
  RankState& me = state(rank_);
  if (waited_s == 0) count_beats();
  me.beats.fetch_add(1);
  const std::uint32_t seen = me.doorbell.load();
  me.sleeping.store(1);
  // What changed before this store is seen by advance(); who changes it later rings, and futex_wait compares the word.
  Progress progress = what.advance();
  const auto start = clock::now();
  bool interrupted = false;
  if (progress == Progress::kIdle && ending().cause == Cause::kNone && absent(what).cause == Cause::kNone)
    interrupted = !futex_wait(me.doorbell, seen, kSliceMs);
  me.sleeping.store(0);
  if (progress != Progress::kIdle) return progress;
  const double slept_s = std::chrono::duration<double>(clock::now() - start).count();
  waited_s += std::min(slept_s, kSliceMs * 1e-3);
  if (interrupted || slept_s >= kSliceMs * 1e-3) poll_host();
  const Ending late = waited_s >= timeout_s ? Ending{Cause::kStuck, culprit(what)} : absent(what);
  if (late.cause == Cause::kNone) return Progress::kIdle;
  progress = what.advance();  // it may have come right before its sender left
  if (progress != Progress::kIdle) return progress;
  end(late.cause, late.rank);
  if (late.cause != Cause::kStuck || ending().cause != Cause::kStuck) check_ending(label);
  std::ostringstream message;
  message << "rank " << rank_ << " got nothing from rank " << late.rank << " within " << timeout_s << " s in "
          << with_peer(label, late.rank);
  throw PeerError(message.str());
}

void Group::poll_host() {
  if (!poll_) return;
  try {
    poll_();
  } catch (...) {
    end(Cause::kInterrupted, rank_);
    throw;
  }
}

// The rank to blame: not one that itself waits for somebody, as its beats since the beginning of this wait show.
int Group::culprit(const Waitable& what) const {
  int missing = -1, silent = -1;
  for (int rank = size() - 1; rank >= 0; --rank) {
    if (rank == rank_) continue;
    const bool waited_for = what.waits_for(rank), beats = state(rank).beats.load() != beats_[static_cast<std::size_t>(rank)];
    if (waited_for && !beats) return rank;
    if (waited_for) missing = rank;
    if (!beats) silent = rank;
  }
  return silent >= 0 ? silent : missing;
}

void Group::count_beats() {
  beats_.resize(static_cast<std::size_t>(size()));
  for (int rank = 0; rank < size(); ++rank) beats_[static_cast<std::size_t>(rank)] = state(rank).beats.load();
}

// Whether somebody that is waited for will never come.
Ending Group::absent(const Waitable& what) const {
  for (int rank = 0; rank < size(); ++rank) {
    if (!what.waits_for(rank)) continue;
    if (phase(rank) == Phase::kDone) return {Cause::kFinished, rank};
    if (in_other_operation(rank)) return {Cause::kMismatch, rank};
  }
  return {};
}

// As many operations as this rank, but the last one is another.
bool Group::in_other_operation(int rank) const {
  const std::uint64_t theirs = state(rank).operation.load(), mine = state(rank_).operation.load();
  return theirs >> 32 == mine >> 32 && theirs != mine;
}

void Group::enter(std::uint32_t tag, const std::string& label) {
  check_ending(label);
  std::atomic<std::uint64_t>& operation = state(rank_).operation;
  operation.store(((operation.load() >> 32) + 1) << 32 | tag);
}

struct Barrier final : Waitable {
  Barrier(const Group& group, std::uint64_t entries) : group(group), entries(entries) {}
  Progress advance() override {
    return group.control_->arrived.load() >= all() ? Progress::kDone : Progress::kIdle;
  }
  bool waits_for(int rank) const override { return group.state(rank).barriers.load() < entries; }
  std::uint64_t all() const { return entries * static_cast<std::uint64_t>(group.size()); }
  const Group& group;
  std::uint64_t entries;
};

void Group::wait_barrier(double timeout_s, const std::string& label) {
  RankState& me = state(rank_);
  Barrier barrier(*this, me.barriers.load() + 1);
  me.barriers.store(barrier.entries);
  control_->arrived.fetch_add(1);
  if (barrier.advance() == Progress::kDone) return ring_all();
  try {
    wait(barrier, timeout_s, label);
  } catch (const PeerError&) {
    if (withdraw(barrier)) throw;
  } catch (...) {
    withdraw(barrier);
    throw;
  }
}

bool Group::withdraw(const Barrier& barrier) {
  std::uint64_t arrived = control_->arrived.load();
  while (arrived < barrier.all())
    if (control_->arrived.compare_exchange_weak(arrived, arrived - 1)) return true;
  return false;
}

void Group::barrier(const std::string& label, std::uint32_t tag) {
  enter(tag, label);
  pass(label);
}

void Group::pass(const std::string& label) {
  wait_barrier(timeout_s_, label);
  check_operations(label);
}

void Group::check_operations(const std::string& label) {
  for (int rank = 0; rank < size(); ++rank) {
    if (!in_other_operation(rank)) continue;
    end(Cause::kMismatch, rank);
    check_ending(label);
  }
}

struct Chunks final : Waitable {
  Chunks(const Group& group, Lane lane, std::uint64_t count) : group(group), lane(lane), count(count) {}
  Progress advance() override {
    for (int rank = 0; rank < group.size(); ++rank)
      if (waits_for(rank)) return Progress::kIdle;
    return Progress::kDone;
  }
  bool waits_for(int rank) const override {
    return rank != group.rank_ && group.state(rank).done[lane].load() < count;
  }
  const Group& group;
  Lane lane;
  std::uint64_t count;
};

void Group::finish_chunk(Lane lane) {
  state(rank_).done[lane].fetch_add(1);
  ring_all();
}

void Group::await_chunk(Lane lane, std::uint64_t count, const std::string& label) {
  Chunks chunks(*this, lane, count);
  wait(chunks, timeout_s_, label);
}

void Group::linger(Lane lane, std::uint64_t count) {
  const Chunks chunks(*this, lane, count);
  const Ending e = ending();
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::milliseconds(kLingerMs);
  for (int rank = 0; rank < size(); ++rank)
    while (rank != e.rank && phase(rank) == Phase::kJoined && chunks.waits_for(rank) && std::chrono::steady_clock::now() < deadline)
      std::this_thread::yield();
}

void Group::publish_array(const void* data, std::size_t nbytes) { state(rank_).array.store(arena_->offset(data, nbytes)); }

std::vector<std::byte*> Group::arrays(std::size_t nbytes) {
  std::vector<std::byte*> found;
  for (int rank = 0; rank < size(); ++rank) {
    const std::uint64_t at = state(rank).array.load();
    if (at == kElsewhere) return {};
    found.push_back(rank == rank_ ? nullptr : arrays_[static_cast<std::size_t>(rank)].map(at + nbytes) + at);
  }
  return found;
}

int Group::next_outbox(std::size_t nbytes, const std::string& label) {
  if (nbytes < kLargeOutboxNbytes) return last_outbox_ ^= 1;
  pass(label);
  return 2;
}

std::byte* Group::workspace(std::size_t nbytes) { return workspace_.reserve(nbytes); }

std::byte* Group::outbox(int rank, int which, std::size_t nbytes) {
  Extent& extent = (*outboxes_)[static_cast<std::size_t>(Layout::kOutboxes * rank + which)];
  if (rank == rank_) extent.reserve(nbytes);
  return extent.map(nbytes);
}

void Group::start(double timeout_s, bool watch) {
  RankState& me = state(rank_);
  me.pid.store(process_id());
  me.phase.store(static_cast<std::uint32_t>(Phase::kJoined));
  wait_barrier(timeout_s, "start");
  if (!watch) return;
  std::vector<int> pids;
  for (int rank = 0; rank < size(); ++rank) pids.push_back(rank == rank_ ? 0 : pid(rank));
  watcher_ = std::make_unique<Watcher>(pids, [this](int rank) {
    if (phase(rank) == Phase::kJoined) end(Cause::kDied, rank);
    ring_doorbell(rank_);
  });
}

void Group::leave(bool failed) {
  state(rank_).phase.store(static_cast<std::uint32_t>(failed ? Phase::kFailed : Phase::kDone));
  if (failed) end(Cause::kFailed, rank_);
  ring_all();
}

}  // namespace scrimp
