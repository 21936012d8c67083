#include "engine/all_reduce.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <type_traits>
#include <vector>

#include "core/check.h"
#include "core/fp_env.h"
#include "core/rng.h"
#include "engine/stream.h"

namespace scrimp {
namespace {

constexpr std::size_t kChunk = 16384;  // values handled at once: they stay in the second-level cache
constexpr std::size_t kSlotAlignment = 64;

// At the start of each outbox: what its rank says of the result that it owns, after the second barrier. Behind it stands,
// for each peer and after the first barrier, 0 or 1 + the index of the value that could not be encoded for it.
struct alignas(64) Notice {
  std::uint32_t failed, nonfinite;
  std::int32_t rank;
  std::uint64_t index;
};

std::size_t aligned(std::size_t nbytes) { return (nbytes + kSlotAlignment - 1) / kSlotAlignment * kSlotAlignment; }

template <class Body>
void in_chunks(Range range, Body body) {
  for (std::size_t i = range.begin; i < range.end; i += kChunk) body(i, std::min(kChunk, range.end - i));
}

template <class T>
bool all_finite(const T* x, std::size_t n) {
  if constexpr (std::is_floating_point_v<T>) {
    using Bits = std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint64_t>;
    constexpr Bits kExponent = sizeof(T) == 4 ? Bits{0x7f800000u} : static_cast<Bits>(0x7ff0000000000000ull);
    Bits bad = 0;
    for (std::size_t i = 0; i < n; ++i) {
      Bits bits;
      std::memcpy(&bits, x + i, sizeof bits);
      bad |= static_cast<Bits>((bits & kExponent) == kExponent);
    }
    return !bad;
  } else {
    return true;
  }
}

template <class T>
void add(T* total, const T* x, std::size_t n) {
  if constexpr (std::is_integral_v<T>) {
    using U = std::make_unsigned_t<T>;
    for (std::size_t i = 0; i < n; ++i) total[i] = static_cast<T>(static_cast<U>(total[i]) + static_cast<U>(x[i]));
  } else {
    for (std::size_t i = 0; i < n; ++i) total[i] += x[i];
  }
}

template <class T>
void sum(const T* a, const T* b, std::size_t n, T* total) {
  if constexpr (std::is_integral_v<T>) {
    std::copy_n(a, n, total);
    add(total, b, n);
  } else {
    for (std::size_t i = 0; i < n; ++i) total[i] = a[i] + b[i];
  }
}

template <class T>
void finish(T* total, std::size_t n, const ReduceCall& call, int size) {
  if (!call.mean) return;
  const T divisor = static_cast<T>(size);
  for (std::size_t i = 0; i < n; ++i) total[i] /= divisor;
}

// Where every slice of every rank lies: slot p of outbox i is what i sends to p; slot i is the result that i owns.
class Slots {
 public:
  template <class Nbytes>
  Slots(Group& group, const ReduceCall& call, std::size_t block, Nbytes nbytes) : group_(group) {
    std::size_t at = aligned(sizeof(Notice) + static_cast<std::size_t>(group.size()) * sizeof(std::uint64_t));
    for (int rank = 0; rank < group.size(); ++rank) {
      shards_.push_back(shard(call.n, group.size(), rank, block));
      offsets_.push_back(at);
      at += aligned(nbytes(shards_.back().size()));
    }
    which_ = group.next_outbox(at, call.label);
    nbytes_ = at;
    boxes_.resize(static_cast<std::size_t>(group.size()));
    boxes_[static_cast<std::size_t>(group.rank())] = group.outbox(group.rank(), which_, at);
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

void meet_to_combine(Group& group, const ReduceCall& call) {
  group.pass(call.label + ", slice " + std::to_string(group.rank()) + " of " + std::to_string(group.size()));
}

void meet_to_gather(Group& group, const ReduceCall& call) {
  group.pass(call.label + ", slice %p of " + std::to_string(group.size()));
}

class EncodedAllReduce {
 public:
  EncodedAllReduce(Group& group, const ReduceCall& call, const EncodedReduce& what)
      : group_(group), call_(call), what_(what), codec_(*what.codec), rank_(group.rank()), size_(group.size()),
        slots_(group, call, codec_.kernels().block, [this](std::size_t n) { return codec_.nbytes(n); }),
        scratch_(kChunk), decoded_(kChunk) {}

  Outcome run() {
    FpEnv ieee;
    scatter();
    meet_to_combine(group_, call_);
    slots_.open_peers();
    combine();
    meet_to_gather(group_, call_);
    const Outcome outcome = slots_.outcome();
    const bool finite = outcome.kind == Outcome::kFinite;
    if (finite && what_.feedback != Feedback::kNone) remember();
    if (finite || (outcome.kind == Outcome::kNonfinite && call_.write_nonfinite)) write(finite);
    return outcome;
  }

 private:
  // Values [i, i + count) of a slice that begins at `begin`, as bytes at `slot`.
  std::size_t encode(const float* values, std::size_t count, std::uint8_t* slot, std::size_t begin, std::size_t i,
                     std::uint64_t seed) {
    const EncodeRun run{values, count, slot + codec_.nbytes(i - begin), &codec_.options(), rng_key(seed, what_.step),
                        what_.first_index + i, Nonfinite::kPropagate};
    const std::size_t stop = codec_.kernels().encode(run);
    return stop == kAllEncoded ? kAllEncoded : i + stop;
  }

  void decode(const std::uint8_t* slot, std::size_t begin, std::size_t i, std::size_t count, bool add_to, float* out) {
    codec_.kernels().decode({slot + codec_.nbytes(i - begin), count, out, add_to, &codec_.options()});
  }

  // What this rank sends of values [i, i + count) of a peer's slice: x, with feedback.
  const float* outgoing(std::size_t i, std::size_t count) {
    if (what_.feedback == Feedback::kNone) return what_.x + i;
    const float* x = what_.x + i;
    const float* memory = what_.sent + i;
    float* out = scratch_.data();
    if (what_.feedback == Feedback::kEf14) {
      for (std::size_t j = 0; j < count; ++j) out[j] = x[j] + memory[j];
    } else {
      for (std::size_t j = 0; j < count; ++j) out[j] = x[j] - memory[j];
    }
    return out;
  }

  void scatter() {
    for (int step = 1; step < size_; ++step) {
      const int peer = (rank_ + step) % size_;
      const Range range = slots_.range(peer);
      in_chunks(range, [&](std::size_t i, std::size_t count) {
        const std::size_t failed =
            encode(outgoing(i, count), count, slots_.slot(rank_, peer), range.begin, i, what_.scatter_seed);
        std::uint64_t& first = slots_.failures(rank_)[peer];
        if (failed != kAllEncoded && !first) first = failed + 1;
      });
    }
  }

  void combine() {
    Notice& notice = *slots_.notice(rank_);
    for (int peer = size_ - 1; peer >= 0; --peer)
      if (const std::uint64_t failed = slots_.failures(peer)[rank_]) notice = {1, 0, peer, failed - 1};
    const Range own = slots_.own();
    if (what_.feedback != Feedback::kNone) kept_ = group_.workspace(own.size());
    in_chunks(own, [&](std::size_t i, std::size_t count) {
      float* total = scratch_.data();
      sum(i, count, total);
      finish(total, count, call_, size_);
      if (what_.feedback == Feedback::kEf21)
        for (std::size_t j = 0; j < count; ++j) total[j] -= what_.estimate[i + j];
      if (what_.feedback == Feedback::kEf14) add(total, what_.owned + (i - own.begin), count);
      const std::size_t failed = encode(total, count, slots_.slot(rank_, rank_), own.begin, i, what_.gather_seed);
      if (failed != kAllEncoded && !notice.failed) notice = {1, 0, rank_, failed};
      check(i, count, total, notice);
    });
  }

  void sum(std::size_t i, std::size_t count, float* total) {
    const std::size_t begin = slots_.own().begin;
    const bool ef21 = what_.feedback == Feedback::kEf21;
    if (ef21) std::copy_n(what_.owned + (i - begin), count, total);
    for (int peer = 0; peer < size_; ++peer) {
      if (peer != rank_) {
        decode(slots_.slot(peer, rank_), begin, i, count, ef21 || peer > 0, total);
      } else if (!ef21 && peer == 0) {
        std::copy_n(what_.x + i, count, total);
      } else if (!ef21) {
        add(total, what_.x + i, count);
      }
    }
    if (!ef21) return;
    std::copy_n(total, count, kept_ + (i - begin));
    add(total, what_.x + i, count);
  }

  // Decodes what was just encoded: every rank will see the same.
  void check(std::size_t i, std::size_t count, const float* total, Notice& notice) {
    const std::size_t begin = slots_.own().begin;
    float* decoded = decoded_.data();
    decode(slots_.slot(rank_, rank_), begin, i, count, false, decoded);
    if (what_.feedback == Feedback::kEf14)
      for (std::size_t j = 0; j < count; ++j) kept_[i - begin + j] = total[j] - decoded[j];
    if (what_.feedback == Feedback::kEf21) add(decoded, what_.estimate + i, count);
    if (!all_finite(decoded, count)) notice.nonfinite = 1;
  }

  // The new state of the feedback; x is still what the caller gave.
  void remember() {
    std::copy_n(kept_, slots_.own().size(), what_.owned);
    for (int peer = 0; peer < size_; ++peer) {
      if (peer == rank_) continue;
      const Range range = slots_.range(peer);
      in_chunks(range, [&](std::size_t i, std::size_t count) {
        float* memory = what_.sent + i;
        if (what_.feedback == Feedback::kEf21) return decode(slots_.slot(rank_, peer), range.begin, i, count, true, memory);
        const float* values = outgoing(i, count);
        decode(slots_.slot(rank_, peer), range.begin, i, count, false, decoded_.data());
        for (std::size_t j = 0; j < count; ++j) memory[j] = values[j] - decoded_[j];
      });
    }
  }

  void write(bool finite) {
    for (int owner = 0; owner < size_; ++owner) {
      const Range range = slots_.range(owner);
      in_chunks(range, [&](std::size_t i, std::size_t count) {
        float* x = what_.x + i;
        decode(slots_.slot(owner, owner), range.begin, i, count, false, x);
        if (what_.feedback != Feedback::kEf21) return;
        add(x, what_.estimate + i, count);
        if (finite) std::copy_n(x, count, what_.estimate + i);
      });
    }
  }

  Group& group_;
  const ReduceCall& call_;
  const EncodedReduce& what_;
  const Codec& codec_;
  int rank_, size_;
  Slots slots_;
  std::vector<float> scratch_, decoded_;
  float* kept_ = nullptr;  // [own slice] the new `owned`
};

template <class T>
class RawAllReduce {
 public:
  RawAllReduce(Group& group, const ReduceCall& call, T* x)
      : group_(group), call_(call), x_(x), slots_(group, call, 1, [](std::size_t n) { return n * sizeof(T); }) {}

  Outcome run() {
    FpEnv ieee;
    for (int peer = 0; peer < group_.size(); ++peer)
      if (peer != group_.rank())
        copy_out(slot(group_.rank(), peer), x_ + slots_.range(peer).begin, slots_.range(peer).size() * sizeof(T),
                 call_.n * sizeof(T));
    meet_to_combine(group_, call_);
    slots_.open_peers();
    combine();
    meet_to_gather(group_, call_);
    const Outcome outcome = slots_.outcome();
    if (outcome.kind == Outcome::kFinite || call_.write_nonfinite)
      for (int owner = 0; owner < group_.size(); ++owner)
        copy_out(x_ + slots_.range(owner).begin, slot(owner, owner), slots_.range(owner).size() * sizeof(T),
                 call_.n * sizeof(T));
    return outcome;
  }

 private:
  T* slot(int from, int to) const { return reinterpret_cast<T*>(slots_.slot(from, to)); }

  void combine() {
    const int rank = group_.rank();
    const Range own = slots_.own();
    T* result = slot(rank, rank);
    std::vector<T> chunk(kChunk);
    T* total = chunk.data();
    const T* first = nullptr;
    in_chunks({0, own.size()}, [&](std::size_t i, std::size_t count) {
      for (int peer = 0; peer < group_.size(); ++peer) {
        const T* part = (peer == rank ? x_ + own.begin : slot(peer, rank)) + i;
        if (peer == 0) {
          first = part;
        } else if (peer == 1) {
          sum(first, part, count, total);
        } else {
          add(total, part, count);
        }
      }
      finish(total, count, call_, group_.size());
      if (!all_finite(total, count)) slots_.notice(rank)->nonfinite = 1;
      copy_out(result + i, total, count * sizeof(T), call_.n * sizeof(T));
    });
  }

  Group& group_;
  const ReduceCall& call_;
  T* x_;
  Slots slots_;
};

}  // namespace

Range shard(std::size_t n, int size, int rank, std::size_t block) {
  const std::size_t n_blocks = (n + block - 1) / block, s = static_cast<std::size_t>(size), r = static_cast<std::size_t>(rank);
  return {std::min(n, n_blocks * r / s * block), std::min(n, n_blocks * (r + 1) / s * block)};
}

Outcome all_reduce(Group& group, const ReduceCall& call, const EncodedReduce& what) {
  require(kChunk % what.codec->block() == 0, "blocks of ", what.codec->block(), " do not fit into chunks of ", kChunk);
  group.enter(call.tag, call.label);
  return EncodedAllReduce(group, call, what).run();
}

template <class T>
Outcome all_reduce_raw(Group& group, const ReduceCall& call, T* x) {
  group.enter(call.tag, call.label);
  return RawAllReduce<T>(group, call, x).run();
}

template Outcome all_reduce_raw(Group&, const ReduceCall&, float*);
template Outcome all_reduce_raw(Group&, const ReduceCall&, double*);
template Outcome all_reduce_raw(Group&, const ReduceCall&, std::int32_t*);
template Outcome all_reduce_raw(Group&, const ReduceCall&, std::int64_t*);

}  // namespace scrimp
