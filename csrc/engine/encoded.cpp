// Collectives of encoded values. Residuals change in the pass that encodes, and come back if the call fails.
#include <cstring>
#include <vector>

#include "core/check.h"
#include "core/fp_env.h"
#include "core/rng.h"
#include "engine/collectives.h"
#include "engine/numeric.h"
#include "engine/slots.h"
#include "engine/undo.h"

namespace scrimp {
namespace {

// Values that are combined at once: they stay in the first-level cache, and hold a whole group of the longest blocks, 16 of
// 256 values, which the kernels encode together.
constexpr std::size_t kPiece = 4096;

template <class Body>
void in_pieces(Range range, Body body) {
  for (std::size_t i = range.begin; i < range.end; i += kPiece) body(i, std::min(kPiece, range.end - i));
}

class Encoded {
 public:
  Encoded(Group& group, const ReduceCall& call, const EncodedReduce& what, std::vector<Range> ranges, Filled filled)
      : group_(group), call_(call), what_(what), codec_(*what.codec), rank_(group.rank()), size_(group.size()),
        stream_(call.n * sizeof(float) >= 2 * kStreamNbytes), stream_codes_(codec_.nbytes(call.n) >= 2 * kStreamNbytes),
        slots_(group, call, std::move(ranges), filled, [this](std::size_t n) { return codec_.nbytes(n); }),
        room_(what.feedback == Feedback::kNone
                  ? nullptr
                  : reinterpret_cast<float*>(group.workspace((call.n + slots_.own().size()) * sizeof(float)))),
        sent_(what.sent, room_, call.n), owned_(what.owned, room_ + (room_ ? call.n : 0), slots_.own().size()) {}

  Outcome all_reduce() {
    scatter();
    group_.pass(own_slice(group_, call_));
    slots_.open_peers();
    collect_failures();
    in_pieces(slots_.own(), [&](std::size_t i, std::size_t count) { combine(i, count); });
    group_.pass(their_slices(group_, call_));
    return finish([&](bool finite) { write(what_.x, finite); });
  }

  Outcome reduce_scatter(float* out) {
    std::vector<float> result(slots_.own().size());
    scatter();
    group_.pass(own_slice(group_, call_));
    slots_.open_peers();
    collect_failures();
    in_pieces(slots_.own(), [&](std::size_t i, std::size_t count) {
      if (!sum(i, count, result.data() + (i - slots_.own().begin))) slots_.notice(rank_)->nonfinite = 1;
    });
    group_.pass(their_slices(group_, call_));
    return finish([&](bool) { std::copy(result.begin(), result.end(), out); });
  }

  // The own slot of each rank to everybody; `values` begins with the own slice.
  Outcome gather(const float* values, float* out) {
    const Range own = slots_.own();
    in_chunks(own, [&](std::size_t i, std::size_t count) {
      note(encode(values + (i - own.begin), count, slots_.slot(rank_, rank_), own.begin, i, what_.gather_seed, nullptr));
    });
    group_.pass(their_slices(group_, call_));
    slots_.open_peers();
    return finish([&](bool finite) { write(out, finite); });
  }

 private:
  // Values [i, i + count) of a slice that begins at `begin`, as bytes at `slot`; index of the first that cannot be encoded.
  std::size_t encode(const float* values, std::size_t count, std::uint8_t* slot, std::size_t begin, std::size_t i,
                     std::uint64_t seed, float* state) {
    const EncodeRun run{values, count, slot + codec_.nbytes(i - begin), &codec_.options(), rng_key(seed, what_.step),
                        what_.first_index + i, Nonfinite::kPropagate, state ? what_.feedback : Feedback::kNone, state, stream_codes_};
    const std::size_t stop = codec_.kernels().encode(run);
    return stop == kAllEncoded ? kAllEncoded : i + stop;
  }

  void decode(const std::uint8_t* slot, std::size_t begin, std::size_t i, std::size_t count, bool add_to, float* out,
              bool stream = false) {
    codec_.kernels().decode({slot + codec_.nbytes(i - begin), count, out, add_to, &codec_.options(), stream});
  }

  // Says that a value of the own result cannot be encoded.
  void note(std::size_t failed) {
    Notice& notice = *slots_.notice(rank_);
    if (failed != kAllEncoded && !notice.failed) notice = {1, 0, rank_, failed};
  }

  void scatter() {
    for (int step = 1; step < size_; ++step) {
      const int peer = (rank_ + step) % size_;
      const Range range = slots_.range(peer);
      in_chunks(range, [&](std::size_t i, std::size_t count) {
        if (what_.sent) sent_.save(i, count);
        const std::size_t failed = encode(what_.x + i, count, slots_.slot(rank_, peer), range.begin, i, what_.scatter_seed,
                                          what_.sent ? what_.sent + i : nullptr);
        std::uint64_t& first = slots_.failures(rank_)[peer];
        if (failed != kAllEncoded && !first) first = failed + 1;
      });
    }
  }

  // The first failure of the peers, by rank, is that of the own slice.
  void collect_failures() {
    for (int peer = size_ - 1; peer >= 0; --peer)
      if (const std::uint64_t failed = slots_.failures(peer)[rank_]) *slots_.notice(rank_) = {1, 0, peer, failed - 1};
  }

  // What a rank adds to values [i, i + count) of the own slice; decoded into `room` where it is not the own.
  const float* part(int peer, std::size_t i, std::size_t count, float* room) {
    if (peer == rank_) return what_.x + i;
    decode(slots_.slot(peer, rank_), slots_.own().begin, i, count, false, room);
    return room;
  }

  // total = the sum or mean of values [i, i + count) of the own slice, in the order of ranks; whether it is finite.
  bool sum(std::size_t i, std::size_t count, float* total) {
    const std::size_t begin = slots_.own().begin;
    const float* x = what_.x + i;
    const int divisor = call_.mean ? size_ : 1;
    if (what_.feedback == Feedback::kEf21) {
      float* owned = what_.owned + (i - begin);
      owned_.save(i - begin, count);
      for (int peer = 0; peer < size_; ++peer)
        if (peer != rank_) decode(slots_.slot(peer, rank_), begin, i, count, true, owned);
      return sum_last(owned, x, count, divisor, total);
    }
    const float* so_far = part(0, i, count, total);
    if (size_ == 1) {
      std::copy_n(so_far, count, total);
      return all_finite(total, count);
    }
    for (int peer = 1; peer < size_ - 1; ++peer, so_far = total) scrimp::sum(so_far, part(peer, i, count, decoded_), count, total);
    return sum_last(so_far, part(size_ - 1, i, count, decoded_), count, divisor, total);
  }

  // Encodes the result. What all ranks will decode is finite, or they are told.
  void combine(std::size_t i, std::size_t count) {
    const std::size_t begin = slots_.own().begin;
    sum(i, count, total_);
    if (what_.feedback == Feedback::kEf21)
      for (std::size_t j = 0; j < count; ++j) total_[j] -= what_.estimate[i + j];
    float* lost = what_.feedback == Feedback::kEf14 ? what_.owned + (i - begin) : nullptr;
    if (lost) owned_.save(i - begin, count);
    note(encode(total_, count, slots_.slot(rank_, rank_), begin, i, what_.gather_seed, lost));
    if (decodes_finite(lost, count)) return;
    decode(slots_.slot(rank_, rank_), begin, i, count, false, decoded_);
    if (what_.feedback == Feedback::kEf21) add(decoded_, what_.estimate + i, count);
    if (!all_finite(decoded_, count)) slots_.notice(rank_)->nonfinite = 1;
  }

  // Whether the result is known to decode to finite values: what was lost is finite only then; without feedback, codecs that
  // refuse what is not finite make finite values of tame ones.
  bool decodes_finite(const float* lost, std::size_t count) const {
    if (lost) return all_finite(lost, count);
    return what_.feedback == Feedback::kNone && !codec_.kernels().passes_nonfinite && is_tame(total_, count);
  }

  template <class Write>
  Outcome finish(Write write) {
    const Outcome outcome = slots_.outcome();
    const bool finite = outcome.kind == Outcome::kFinite;
    if (finite || (outcome.kind == Outcome::kNonfinite && call_.write_nonfinite)) write(finite);
    if (finite) {
      sent_.keep();
      owned_.keep();
    }
    return outcome;
  }

  void write(float* out, bool finite) {
    const bool ef21 = what_.feedback == Feedback::kEf21;
    for (int owner = 0; owner < size_; ++owner) {
      const Range range = slots_.range(owner);
      in_chunks(range, [&](std::size_t i, std::size_t count) {
        decode(slots_.slot(owner, owner), range.begin, i, count, false, out + i, stream_ && !ef21);
        if (!ef21) return;
        add(out + i, what_.estimate + i, count);
        if (finite) std::copy_n(out + i, count, what_.estimate + i);
      });
    }
  }

  Group& group_;
  const ReduceCall& call_;
  const EncodedReduce& what_;
  const Codec& codec_;
  int rank_, size_;
  bool stream_, stream_codes_;
  Slots slots_;
  float* room_;
  Undo<float> sent_, owned_;
  alignas(64) float total_[kPiece], decoded_[kPiece];
};

void enter(Group& group, const ReduceCall& call, const EncodedReduce& what) {
  require(kPiece % what.codec->block() == 0, "blocks of ", what.codec->block(), " do not fit into pieces of ", kPiece);
  require(call.block % what.codec->block() == 0, "slices must begin at multiples of ", what.codec->block());
  group.enter(call.tag, call.label);
}

}  // namespace

Range shard(std::size_t n, int size, int rank, std::size_t block) {
  const std::size_t n_blocks = (n + block - 1) / block, s = static_cast<std::size_t>(size), r = static_cast<std::size_t>(rank);
  return {std::min(n, n_blocks * r / s * block), std::min(n, n_blocks * (r + 1) / s * block)};
}

Outcome all_reduce(Group& group, const ReduceCall& call, const EncodedReduce& what) {
  const FpEnv ieee;
  enter(group, call, what);
  return Encoded(group, call, what, shards(group, call), Filled::kAll).all_reduce();
}

Outcome reduce_scatter(Group& group, const ReduceCall& call, const EncodedReduce& what, float* out) {
  const FpEnv ieee;
  enter(group, call, what);
  return Encoded(group, call, what, shards(group, call), Filled::kAll).reduce_scatter(out);
}

Outcome all_gather(Group& group, const ReduceCall& call, const EncodedReduce& mine, float* out) {
  const FpEnv ieee;
  enter(group, call, mine);
  return Encoded(group, call, mine, shards(group, call), Filled::kOwn).gather(mine.x, out);
}

Outcome broadcast(Group& group, const ReduceCall& call, const EncodedReduce& what, int root) {
  const FpEnv ieee;
  enter(group, call, what);
  return Encoded(group, call, what, all_of(group, call, root), Filled::kOwn).gather(what.x, what.x);
}

}  // namespace scrimp
