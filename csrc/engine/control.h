#pragma once
// What the processes of a group share at the start of their segment, as bytes: who is there, what failed, how far the
// barrier and every byte ring are. Only lock-free atomics; a process may die between any two instructions.
#include <atomic>
#include <cstddef>
#include <cstdint>

namespace scrimp {

enum class Phase : std::uint32_t { kStarting, kJoined, kDone, kFailed };

enum class Cause : std::uint32_t { kNone, kDied, kFailed, kStuck, kFinished, kMismatch, kInterrupted };

struct Ending {
  Cause cause = Cause::kNone;
  int rank = -1;  // who caused it
};

// The stages of an operation in chunks: sent to the owners, combined by their owner, taken from the owners.
enum Lane { kSent, kCombined, kTaken, kLanes };

constexpr std::uint64_t kElsewhere = ~std::uint64_t{0};

// Two cache lines: what changes while the rank waits or dies, which peers look at all the time, and what it does.
struct alignas(64) RankState {
  std::atomic<std::uint32_t> doorbell;  // futex word: changes when it sleeps and something it may wait for has changed
  std::atomic<std::uint32_t> sleeping;
  std::atomic<std::uint32_t> phase;
  std::atomic<std::int32_t> pid;
  std::atomic<std::uint64_t> beats;      // grows while it waits: who does not beat is computing, stopped or dead
  alignas(64) std::atomic<std::uint64_t> barriers;  // barriers this rank has entered
  std::atomic<std::uint64_t> operation;  // how many operations it has entered << 32 | tag of the last
  std::atomic<std::uint64_t> done[kLanes];   // chunks that it is through with, by lane, over all operations
  std::atomic<std::uint64_t> array;      // where its array of the present operation lies in its arena, or kElsewhere
  std::atomic<std::uint32_t> verdict;    // what it says of the slice that it owns, before a barrier
};

// Bytes from one rank to one other: `written` and `read` only grow, their difference is what waits in the ring.
struct RingState {
  alignas(64) std::atomic<std::uint64_t> written;
  alignas(64) std::atomic<std::uint64_t> read;
};

struct alignas(64) Control {
  std::uint32_t magic;
  std::int32_t size;
  std::uint64_t ring_nbytes;           // a power of two
  std::int32_t cores;                  // that the ranks share
  std::atomic<std::uint64_t> ending;   // 0, or cause << 32 | rank; set once
  alignas(64) std::atomic<std::uint64_t> arrived;  // entries into all barriers so far
};

constexpr std::uint32_t kControlMagic = 0x73637232;  // "scr2"
static_assert(std::atomic<std::uint64_t>::is_always_lock_free);

// Where things lie: Control, RankState[size], RingState[size·size], ring bytes [size·size][ring_nbytes]; ring (i, j)
// carries bytes from i to j and (i, i) stays empty. Behind `total` begin the outboxes, four a rank, and the arenas, one a
// rank, with room to grow: the file is sparse, and a rank allocates what it needs of its own.
struct Layout {
  static constexpr std::size_t kStride = std::size_t{1} << 36;
  std::size_t ranks, rings, bytes, total;
  static Layout of(int size, std::size_t ring_nbytes);
  static constexpr int kOutboxes = 4;
  static std::size_t outbox(int index) { return static_cast<std::size_t>(index + 1) * kStride; }
  static std::size_t arena(int size, int rank) { return outbox(size * kOutboxes + rank); }
};

}  // namespace scrimp
