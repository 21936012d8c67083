// Collectives of plain numbers. All-reduces of at least kChunkedNbytes go to their owners and back chunk by chunk, through
// slots that stay in the caches: memory is read once and written twice (the array, and what was there before; once without
// undo). That needs a core for every rank: who waits for a rank that does not run stands still soon (beside other programs,
// 64 MiB took 30 to 50 ms instead of 16), so ranks that waited long do the next ones with two barriers, as small ones do, and
// as ranks that share cores do. Arrays that lie in the segment are read where they are, if they are so large that memory sets
// the pace.
#include <bit>
#include <cstring>
#include <vector>

#include "core/fp_env.h"
#include "engine/collectives.h"
#include "engine/numeric.h"
#include "engine/slots.h"
#include "engine/undo.h"

namespace scrimp {
namespace {

constexpr std::size_t kChunkedNbytes = std::size_t{8} << 10;
// From here on arrays of the segment are read where they lie: from the second on where chunks may go instead.
constexpr std::size_t kSharedNbytes = std::size_t{512} << 10, kInPlaceNbytes = std::size_t{32} << 20;
constexpr std::size_t kSlotsNbytes = std::size_t{512} << 10;   // of the slots for one chunk to all
constexpr std::size_t kMinSlotNbytes = std::size_t{64} << 10;
constexpr std::size_t kDepth = 4;                              // slots for each peer: more than the chunks under way
constexpr std::size_t kPiece = 2048;                           // values that are summed at once: they stay in the L1 cache

Range part_of(Range slice, std::size_t chunk, std::size_t values) {
  const std::size_t begin = std::min(slice.end, slice.begin + chunk * values);
  return {begin, std::min(slice.end, begin + values)};
}

// total = the sum (or mean) of parts[rank][at, at + count) in the order of ranks; whether it is finite. `total` is none
// of them.
template <class T>
bool reduce(const std::vector<const T*>& parts, std::size_t at, std::size_t count, bool mean, T* total) {
  const std::size_t last = parts.size() - 1;
  if (last == 0) {
    std::memcpy(total, parts[0] + at, count * sizeof(T));
    return all_finite(total, count);
  }
  const int divisor = mean ? static_cast<int>(parts.size()) : 1;
  if (last == 1) return sum_last(parts[0] + at, parts[1] + at, count, divisor, total);
  sum(parts[0] + at, parts[1] + at, count, total);
  for (std::size_t rank = 2; rank < last; ++rank) add(total, parts[rank] + at, count);
  return sum_last(total, parts[last] + at, count, divisor, total);
}

// Where what changes is kept, if the call wants it back.
template <class T>
T* room_for_undo(Group& group, const ReduceCall& call, std::size_t n) {
  return call.undo || !call.write_nonfinite ? reinterpret_cast<T*>(group.workspace(n * sizeof(T))) : nullptr;
}

// What ranks say of a large sum, before the last barrier.
constexpr std::uint32_t kNonfiniteWord = 1, kCrowdedWord = 2;

bool heard(const Group& group, std::uint32_t word) {
  for (int rank = 0; rank < group.size(); ++rank)
    if (group.said(rank) & word) return true;
  return false;
}

Outcome outcome_heard(const Group& group) { return {heard(group, kNonfiniteWord) ? Outcome::kNonfinite : Outcome::kFinite}; }

// Slices go to their owners through kDepth slots for each peer, and results come back in the same slots: who writes a line
// has read it right before, so that it lies in his cache and no store waits for another core. What is sent, combined and taken
// is always three neighbouring chunks: waits are rare, and lines of the array are still in the cache when they are written.
template <class T>
class Conveyor {
 public:
  Conveyor(Group& group, const ReduceCall& call, T* x)
      : group_(group), call_(call), x_(x), rank_(group.rank()), size_(group.size()),
        slot_nbytes_(std::max(kMinSlotNbytes, kSlotsNbytes / std::bit_ceil(static_cast<std::size_t>(size_)))),
        values_(slot_nbytes_ / sizeof(T)), to_owner_(own_slice(group, call)), from_owner_(their_slices(group, call)),
        undo_(x, room_for_undo<T>(group, call, call.n), call.n) {
    for (int rank = 0; rank < size_; ++rank) {
      slices_.push_back(shard(call.n, size_, rank, call.block));
      n_chunks_ = std::max(n_chunks_, (slices_.back().size() + values_ - 1) / values_);
    }
    for (const Lane lane : {kSent, kCombined}) before_[lane] = group.chunks_done(lane);
    for (int rank = 0; rank < size_; ++rank) boxes_.push_back(rank == rank_ ? open(rank) : nullptr);
  }

  Outcome run() {
    bool finite = true;
    const std::uint64_t long_waits = group_.long_waits();
    for (std::size_t t = 0; t < n_chunks_ + 2; ++t) {
      if (t < n_chunks_) send(t);
      if (t >= 1 && t - 1 < n_chunks_) finite &= combine(t - 1);
      if (t >= 2) take(t - 2);
    }
    const bool crowded = group_.long_waits() - long_waits > 1 + n_chunks_ / 16;  // once: a rank came late
    group_.say((finite ? 0u : kNonfiniteWord) | (crowded ? kCrowdedWord : 0u));
    group_.pass(from_owner_);
    group_.note_crowd(heard(group_, kCrowdedWord));
    const Outcome outcome = outcome_heard(group_);
    if (outcome.kind == Outcome::kFinite || call_.write_nonfinite) undo_.keep();
    return outcome;
  }

 private:
  std::byte* open(int rank) { return group_.outbox(rank, Group::kChunks, slot_nbytes_ * kDepth * static_cast<std::size_t>(size_)); }

  // What `from` sends to `to`, and then what `to` has made of it.
  T* slot(int from, int to, std::size_t chunk) const {
    const std::size_t index = chunk % kDepth * static_cast<std::size_t>(size_) + static_cast<std::size_t>(to);
    return reinterpret_cast<T*>(boxes_[static_cast<std::size_t>(from)] + index * slot_nbytes_);
  }

  Range part(int owner, std::size_t chunk) const { return part_of(slices_[static_cast<std::size_t>(owner)], chunk, values_); }

  void await(Lane lane, std::size_t chunk, const std::string& label) {
    group_.await_chunk(lane, before_[lane] + chunk + 1, label);
  }

  // The slots are free: what lay in them kDepth chunks ago has been taken.
  void send(std::size_t chunk) {
    for (int step = 1; step < size_; ++step) {
      const int owner = (rank_ + step) % size_;
      const Range range = part(owner, chunk);
      if (!range.size()) continue;
      T* kept = undo_.place(range.begin, range.size());
      copy_keeping(x_ + range.begin, range.size(), slot(rank_, owner, chunk), kept, undo_.streams());
    }
    group_.finish_chunk(kSent);
  }

  bool combine(std::size_t chunk) {
    await(kSent, chunk, to_owner_);
    if (chunk == 0) open_peers();
    const Range range = part(rank_, chunk);
    const bool finite = size_ == 2 ? combine_two(range, slot(1 - rank_, rank_, chunk)) : combine_all(range, chunk);
    group_.finish_chunk(kCombined);
    return finite;
  }

  // In one pass: what the peer has sent becomes the result, and so does x.
  bool combine_two(Range range, T* theirs) {
    T* kept = undo_.place(range.begin, range.size());
    return sum_both(x_ + range.begin, theirs, rank_ == 1, true, range.size(), call_.mean, kept, undo_.streams());
  }

  bool combine_all(Range range, std::size_t chunk) {
    std::vector<const T*> parts;
    for (int rank = 0; rank < size_; ++rank) parts.push_back(rank == rank_ ? x_ + range.begin : slot(rank, rank_, chunk));
    T total[kPiece];
    bool finite = true;
    for (std::size_t i = 0; i < range.size(); i += kPiece) {
      const std::size_t count = std::min(kPiece, range.size() - i);
      undo_.save(range.begin + i, count);
      finite &= reduce(parts, i, count, call_.mean, total);
      for (int rank = 0; rank < size_; ++rank)
        std::memcpy((rank == rank_ ? x_ + range.begin : slot(rank, rank_, chunk)) + i, total, count * sizeof(T));
    }
    return finite;
  }

  void open_peers() {
    group_.check_operations(to_owner_);
    for (int rank = 0; rank < size_; ++rank)
      if (rank != rank_) boxes_[static_cast<std::size_t>(rank)] = open(rank);
  }

  void take(std::size_t chunk) {
    await(kCombined, chunk, from_owner_);
    for (int owner = 0; owner < size_; ++owner) {
      const Range range = part(owner, chunk);
      if (owner != rank_) copy_keeping<T>(slot(rank_, owner, chunk), range.size(), x_ + range.begin, nullptr, false);
    }
  }

  Group& group_;
  const ReduceCall& call_;
  T* x_;
  int rank_, size_;
  std::size_t slot_nbytes_, values_, n_chunks_ = 0;
  std::vector<Range> slices_;
  std::vector<std::byte*> boxes_;
  std::uint64_t before_[kLanes];
  std::string to_owner_, from_owner_;
  Undo<T> undo_;
};

// All arrays lie in the segment: owners read the peers' where they are and write their own slice in place; after the
// barrier, everybody copies the slices of the others. Nobody leaves before all have read.
template <class T>
class InPlace {
 public:
  InPlace(Group& group, const ReduceCall& call, T* x, const std::vector<std::byte*>& arrays)
      : group_(group), call_(call), x_(x), own_(shard(call.n, group.size(), group.rank(), call.block)),
        undo_(x + own_.begin, room_for_undo<T>(group, call, own_.size()), own_.size()) {
    for (std::byte* array : arrays) arrays_.push_back(array ? reinterpret_cast<const T*>(array) : x);
  }

  Outcome run() {
    group_.say(combine() ? 0u : kNonfiniteWord);
    group_.pass(their_slices(group_, call_));
    const Outcome outcome = outcome_heard(group_);
    if (outcome.kind != Outcome::kFinite && !call_.write_nonfinite) return outcome;
    undo_.keep();
    const std::uint64_t taken = group_.chunks_done(kTaken) + 1;
    take();
    group_.finish_chunk(kTaken);
    try {
      group_.await_chunk(kTaken, taken, their_slices(group_, call_));
    } catch (...) {
      group_.linger(kTaken, taken);
      throw;
    }
    return outcome;
  }

 private:
  bool combine() {
    if (arrays_.size() == 2) {
      T* theirs = const_cast<T*>(arrays_[static_cast<std::size_t>(1 - group_.rank())]) + own_.begin;
      T* kept = undo_.place(0, own_.size());
      return sum_both(x_ + own_.begin, theirs, group_.rank() == 1, false, own_.size(), call_.mean, kept, undo_.streams());
    }
    T total[kPiece];
    bool finite = true;
    for (std::size_t i = own_.begin; i < own_.end; i += kPiece) {
      const std::size_t count = std::min(kPiece, own_.end - i);
      finite &= reduce(arrays_, i, count, call_.mean, total);
      undo_.save(i - own_.begin, count);
      std::memcpy(x_ + i, total, count * sizeof(T));
    }
    return finite;
  }

  void take() {
    for (int step = 1; step < group_.size(); ++step) {
      const int owner = (group_.rank() + step) % group_.size();
      const Range range = shard(call_.n, group_.size(), owner, call_.block);
      copy_out(x_ + range.begin, arrays_[static_cast<std::size_t>(owner)] + range.begin, range.size() * sizeof(T),
               call_.n * sizeof(T));
    }
  }

  Group& group_;
  const ReduceCall& call_;
  T* x_;
  Range own_;
  std::vector<const T*> arrays_;
  Undo<T> undo_;
};

// Through the outboxes: each rank copies what the owners need, they leave the results there.
template <class T>
class TwoBarriers {
 public:
  TwoBarriers(Group& group, const ReduceCall& call, const T* x)
      : group_(group), call_(call), x_(x),
        slots_(group, call, shards(group, call), Filled::kAll, [](std::size_t n) { return n * sizeof(T); }) {}

  Outcome all_reduce(T* x) {
    const Outcome outcome = reduce_own();
    if (outcome.kind == Outcome::kFinite || call_.write_nonfinite)
      for (int owner = 0; owner < group_.size(); ++owner) copy(x + slots_.range(owner).begin, result_of(owner), slots_.range(owner));
    return outcome;
  }

  Outcome reduce_scatter(T* out) {
    const Outcome outcome = reduce_own();
    if (outcome.kind == Outcome::kFinite || call_.write_nonfinite) copy(out, result_of(group_.rank()), slots_.own());
    return outcome;
  }

 private:
  T* slot(int from, int to) const { return reinterpret_cast<T*>(slots_.slot(from, to)); }

  // Of two ranks, the result of one lies where it got the other's values, as on the conveyor.
  T* result_of(int owner) const { return slot(group_.size() == 2 ? 1 - owner : owner, owner); }

  void copy(T* to, const T* from, Range range) { copy_out(to, from, range.size() * sizeof(T), call_.n * sizeof(T)); }

  // Returns what all ranks say of their results.
  Outcome reduce_own() {
    const int rank = group_.rank();
    for (int peer = 0; peer < group_.size(); ++peer)
      if (peer != rank) copy(slot(rank, peer), x_ + slots_.range(peer).begin, slots_.range(peer));
    group_.pass(own_slice(group_, call_));
    slots_.open_peers();
    std::vector<const T*> parts;
    for (int peer = 0; peer < group_.size(); ++peer) parts.push_back(peer == rank ? x_ + slots_.own().begin : slot(peer, rank));
    T* result = result_of(rank);
    T total[kPiece];
    for (std::size_t i = 0; i < slots_.own().size(); i += kPiece) {
      const std::size_t count = std::min(kPiece, slots_.own().size() - i);
      if (!reduce(parts, i, count, call_.mean, total)) slots_.notice(rank)->nonfinite = 1;
      copy(result + i, total, {0, count});
    }
    group_.pass(their_slices(group_, call_));
    return slots_.outcome();
  }

  Group& group_;
  const ReduceCall& call_;
  const T* x_;
  Slots slots_;
};

// The own slot of each rank to everybody.
void gather_bytes(Group& group, const ReduceCall& call, std::vector<Range> ranges, const std::byte* mine, std::byte* out) {
  Slots slots(group, call, std::move(ranges), Filled::kOwn, [](std::size_t n) { return n; });
  copy_out(slots.slot(group.rank(), group.rank()), mine, slots.own().size(), call.n);
  group.pass(their_slices(group, call));
  slots.open_peers();
  for (int owner = 0; owner < group.size(); ++owner)
    copy_out(out + slots.range(owner).begin, slots.slot(owner, owner), slots.range(owner).size(), call.n);
}

}  // namespace

template <class T>
Outcome all_reduce_raw(Group& group, const ReduceCall& call, T* x) {
  const FpEnv ieee;
  group.enter(call.tag, call.label);
  const std::size_t nbytes = call.n * sizeof(T);
  const bool in_chunks = nbytes >= kChunkedNbytes && group.has_cores_for_all() && !group.crowded();
  if (nbytes >= (in_chunks ? kInPlaceNbytes : kSharedNbytes)) {
    group.publish_array(x, nbytes);
    group.pass(own_slice(group, call));
    const std::vector<std::byte*> arrays = group.arrays(nbytes);
    if (!arrays.empty()) return InPlace<T>(group, call, x, arrays).run();
  }
  if (in_chunks) return Conveyor<T>(group, call, x).run();
  return TwoBarriers<T>(group, call, x).all_reduce(x);
}

template <class T>
Outcome reduce_scatter_raw(Group& group, const ReduceCall& call, const T* x, T* out) {
  const FpEnv ieee;
  group.enter(call.tag, call.label);
  return TwoBarriers<T>(group, call, x).reduce_scatter(out);
}

void all_gather_raw(Group& group, const ReduceCall& call, const std::byte* mine, std::byte* out) {
  group.enter(call.tag, call.label);
  gather_bytes(group, call, shards(group, call), mine, out);
}

void broadcast_raw(Group& group, const ReduceCall& call, std::byte* x, int root) {
  group.enter(call.tag, call.label);
  gather_bytes(group, call, all_of(group, call, root), x, x);
}

template Outcome all_reduce_raw(Group&, const ReduceCall&, float*);
template Outcome all_reduce_raw(Group&, const ReduceCall&, double*);
template Outcome all_reduce_raw(Group&, const ReduceCall&, std::int32_t*);
template Outcome all_reduce_raw(Group&, const ReduceCall&, std::int64_t*);
template Outcome reduce_scatter_raw(Group&, const ReduceCall&, const float*, float*);
template Outcome reduce_scatter_raw(Group&, const ReduceCall&, const double*, double*);
template Outcome reduce_scatter_raw(Group&, const ReduceCall&, const std::int32_t*, std::int32_t*);
template Outcome reduce_scatter_raw(Group&, const ReduceCall&, const std::int64_t*, std::int64_t*);

}  // namespace scrimp
