// Collectives of encoded values: everything to its owner, a barrier, every owner encodes the sum, a barrier, everybody decodes.
// Of two ranks, the owner decodes, adds, encodes and judges sixteen blocks at a time in one call of the kernel; what is read from
// memory is read once a stage, and the array is written when it is certain that it may. Residuals change in the pass that
// encodes, which keeps what was there, and come back if the call fails.
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

// Values that are combined at once: they and their sum stay in the first-level cache, and hold a whole group of blocks, 16, which
// the kernels encode together; kPiece of blocks longer than kShortBlock.
constexpr std::size_t kPiece = 4096, kShortPiece = 2048, kShortBlock = 128;

// What undoes the own residuals begins on a line of the cache, too.
std::size_t room_for_sent(std::size_t n) { return aligned(n * sizeof(float)) / sizeof(float); }

class Encoded {
 public:
  Encoded(Group& group, const ReduceCall& call, const EncodedReduce& what, std::vector<Range> ranges, Filled filled)
      : group_(group), call_(call), what_(what), codec_(*what.codec), rank_(group.rank()), size_(group.size()),
        come_back_(size_ == 2 && filled == Filled::kAll), piece_(codec_.block() <= kShortBlock ? kShortPiece : kPiece),
        stream_(call.n * sizeof(float) > 2 * kStreamNbytes), stream_codes_(codec_.nbytes(call.n) >= 2 * kStreamNbytes),
        slots_(group, call, std::move(ranges), filled, [this](std::size_t n) { return codec_.nbytes(n); }),
        room_(what.feedback == Feedback::kNone
                  ? nullptr
                  : reinterpret_cast<float*>(group.workspace((room_for_sent(call.n) + slots_.own().size()) * sizeof(float)))),
        sent_(what.sent, room_, call.n), owned_(what.owned, room_ + (room_ ? room_for_sent(call.n) : 0), slots_.own().size()) {}

  Outcome all_reduce() {
    scatter();
    group_.pass(own_slice(group_, call_));
    slots_.open_peers();
    collect_failures();
    in_pieces([&](std::size_t i, std::size_t count) { combine(i, count); });
    group_.pass(their_slices(group_, call_));
    return finish([&](bool finite) { write(what_.x, finite); });
  }

  Outcome reduce_scatter(float* out) {
    std::vector<float> result(slots_.own().size());
    scatter();
    group_.pass(own_slice(group_, call_));
    slots_.open_peers();
    collect_failures();
    in_pieces([&](std::size_t i, std::size_t count) {
      if (!sum(i, count, result.data() + (i - slots_.own().begin))) slots_.notice(rank_)->nonfinite = 1;
    });
    group_.pass(their_slices(group_, call_));
    return finish([&](bool) { std::copy(result.begin(), result.end(), out); });
  }

  // The own slot of each rank to everybody; `values` begins with the own slice.
  Outcome gather(const float* values, float* out) {
    const Range own = slots_.own();
    in_chunks(own, [&](std::size_t i, std::size_t count) {
      note(i, codec_.kernels().encode(
                  run_of(values + (i - own.begin), count, result_of(rank_), own.begin, i, what_.gather_seed, stream_codes_)));
    });
    group_.pass(their_slices(group_, call_));
    slots_.open_peers();
    return finish([&](bool finite) { write(out, finite); });
  }

 private:
  template <class Body>
  void in_pieces(Body body) {
    const Range own = slots_.own();
    for (std::size_t i = own.begin; i < own.end; i += piece_) body(i, std::min(piece_, own.end - i));
  }

  // How values [i, i + count) of a slice that begins at `begin` become bytes at `slot`.
  EncodeRun run_of(const float* values, std::size_t count, std::uint8_t* slot, std::size_t begin, std::size_t i, std::uint64_t seed,
                   bool stream) const {
    return {values, count, slot + codec_.nbytes(i - begin), &codec_.options(), rng_key(seed, what_.step), what_.first_index + i,
            Nonfinite::kPropagate, Feedback::kNone, nullptr, stream};
  }

  // The residual of what is encoded; it keeps what was there.
  void feed_back(EncodeRun& run, float* state, Undo<float>& undo, std::size_t at) {
    run.feedback = what_.feedback;
    run.state = state;
    run.kept = undo.place(at, run.n);
    run.keep_past = undo.streams();
  }

  void decode(const std::uint8_t* slot, std::size_t begin, std::size_t i, std::size_t count, bool add_to, float* out,
              bool stream = false) {
    codec_.kernels().decode({slot + codec_.nbytes(i - begin), count, out, add_to, &codec_.options(), stream});
  }

  // Where the result lies that `owner` has encoded. Of two ranks, in the slot that the other's values came in: who writes a line
  // has read it right before, and no store waits for another core.
  std::uint8_t* result_of(int owner) const { return slots_.slot(come_back_ ? 1 - owner : owner, owner); }

  // Says that a value of the own result, counted from i on, cannot be encoded.
  void note(std::size_t i, std::size_t stop) {
    Notice& notice = *slots_.notice(rank_);
    if (stop != kAllEncoded && !notice.failed) notice = {1, 0, rank_, i + stop};
  }

  void scatter() {
    for (int step = 1; step < size_; ++step) {
      const int peer = (rank_ + step) % size_;
      const Range range = slots_.range(peer);
      std::uint64_t& first = slots_.failures(rank_)[peer];
      in_chunks(range, [&](std::size_t i, std::size_t count) {
        EncodeRun run = run_of(what_.x + i, count, slots_.slot(rank_, peer), range.begin, i, what_.scatter_seed, stream_codes_);
        if (what_.sent) feed_back(run, what_.sent + i, sent_, i);
        const std::size_t stop = codec_.kernels().encode(run);
        if (stop != kAllEncoded && !first) first = i + stop + 1;
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
    const bool ef21 = what_.feedback == Feedback::kEf21, at_once = size_ == 2 && !ef21;
    EncodeRun run = run_of(at_once ? what_.x + i : total_, count, result_of(rank_), begin, i, what_.gather_seed, false);
    if (at_once) {
      run.plus = run.out;
      run.plus_first = rank_ == 1;
      run.factor = call_.mean ? 0.5f : 1.0f;
    } else {
      sum(i, count, total_);
      for (std::size_t j = 0; ef21 && j < count; ++j) total_[j] -= what_.estimate[i + j];
    }
    if (what_.feedback == Feedback::kEf14) feed_back(run, what_.owned + (i - begin), owned_, i - begin);
    std::uint32_t top = 0;
    run.top = &top;
    note(i, codec_.kernels().encode(run));
    if (!ef21 && top <= codec_.kernels().tame_bits) return;
    decode(result_of(rank_), begin, i, count, false, decoded_);
    if (ef21) add(decoded_, what_.estimate + i, count);
    if (!all_finite(decoded_, count)) slots_.notice(rank_)->nonfinite = 1;
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
        decode(result_of(owner), range.begin, i, count, false, out + i, stream_ && !ef21);
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
  bool come_back_;
  std::size_t piece_;
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
