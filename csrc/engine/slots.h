#pragma once
// What the collectives in shared memory have in common: whose slice lies where, what ranks say of their slices, and the two
// meetings between scatter, combine and gather.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "engine/collectives.h"
#include "engine/group.h"

namespace scrimp {

constexpr std::size_t kChunk = 16384;  // values handled at once: they stay in the second-level cache
constexpr std::size_t kSlotAlignment = 64;

// At the start of each outbox: what its rank says of the result that it owns, after the second barrier. Behind it stands,
// for each peer and after the first barrier, 0 or 1 + the index of the value that could not be encoded for it.
struct alignas(64) Notice {
  std::uint32_t failed, nonfinite;
  std::int32_t rank;
  std::uint64_t index;
};

inline std::size_t aligned(std::size_t nbytes) { return (nbytes + kSlotAlignment - 1) / kSlotAlignment * kSlotAlignment; }

template <class Body>
void in_chunks(Range range, Body body) {
  for (std::size_t i = range.begin; i < range.end; i += kChunk) body(i, std::min(kChunk, range.end - i));
}

inline std::vector<Range> shards(const Group& group, const ReduceCall& call) {
  std::vector<Range> ranges;
  for (int rank = 0; rank < group.size(); ++rank) ranges.push_back(shard(call.n, group.size(), rank, call.block));
  return ranges;
}

// One rank owns all.
inline std::vector<Range> all_of(const Group& group, const ReduceCall& call, int root) {
  std::vector<Range> ranges(static_cast<std::size_t>(group.size()), Range{0, 0});
  ranges[static_cast<std::size_t>(root)] = {0, call.n};
  return ranges;
}

// Where every slice of every rank lies: slot p of outbox i is what i sends to p; slot i is the result that i owns, where there are more than two.
enum class Filled { kAll, kOwn };  // kOwn: nothing is sent to single peers, an outbox holds its own slot alone

class Slots {
 public:
  template <class Nbytes>
  Slots(Group& group, const ReduceCall& call, std::vector<Range> ranges, Filled filled, Nbytes nbytes)
      : group_(group), shards_(std::move(ranges)) {
    const std::size_t head = aligned(sizeof(Notice) + static_cast<std::size_t>(group.size()) * sizeof(std::uint64_t));
    nbytes_ = head;
    for (const Range& range : shards_) {
      const std::size_t slot = aligned(nbytes(range.size()));
      offsets_.push_back(filled == Filled::kAll ? nbytes_ : head);
      nbytes_ = filled == Filled::kAll ? nbytes_ + slot : std::max(nbytes_, head + slot);
    }
    which_ = group.next_outbox(nbytes_, call.label);
    boxes_.resize(static_cast<std::size_t>(group.size()));
    boxes_[static_cast<std::size_t>(group.rank())] = group.outbox(group.rank(), which_, nbytes_);
    *notice(group.rank()) = Notice{};
    std::fill_n(failures(group.rank()), group.size(), 0);
  }

  // Peers' outboxes may be looked at after the first barrier.
  void open_peers() {
    for (int rank = 0; rank < group_.size(); ++rank)
      if (rank != group_.rank()) boxes_[static_cast<std::size_t>(rank)] = group_.outbox(rank, which_, nbytes_);
  }

  Range range(int rank) const { return shards_[static_cast<std::size_t>(rank)]; }
  Range own() const { return range(group_.rank()); }
  Notice* notice(int rank) const { return reinterpret_cast<Notice*>(boxes_[static_cast<std::size_t>(rank)]); }
  std::uint64_t* failures(int rank) const { return reinterpret_cast<std::uint64_t*>(notice(rank) + 1); }
  std::uint8_t* slot(int from, int to) const {
    return reinterpret_cast<std::uint8_t*>(boxes_[static_cast<std::size_t>(from)] + offsets_[static_cast<std::size_t>(to)]);
  }

  // What all ranks have said; equal on all of them.
  Outcome outcome() const {
    bool nonfinite = false;
    for (int rank = 0; rank < group_.size(); ++rank) {
      const Notice& said = *notice(rank);
      if (said.failed) return {Outcome::kFailed, said.rank, said.index};
      nonfinite |= said.nonfinite != 0;
    }
    return {nonfinite ? Outcome::kNonfinite : Outcome::kFinite};
  }

 private:
  Group& group_;
  std::vector<Range> shards_;
  std::vector<std::size_t> offsets_;
  std::vector<std::byte*> boxes_;
  std::size_t nbytes_ = 0;
  int which_ = 0;
};

// What a rank waits for, in errors; "%p" becomes the peer.
inline std::string own_slice(const Group& group, const ReduceCall& call) {
  return call.label + ", slice " + std::to_string(group.rank()) + " of " + std::to_string(group.size());
}
inline std::string their_slices(const Group& group, const ReduceCall& call) {
  return call.label + ", slice %p of " + std::to_string(group.size());
}

}  // namespace scrimp
