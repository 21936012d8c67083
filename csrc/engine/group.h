#pragma once
// The processes of one machine that work together: barrier, byte exchange between any peers at once, and the end of all
// waiting when one of them dies, fails, gets stuck or leaves. Knows bytes and ranks; nothing of codecs or of Python.
#include <algorithm>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "engine/arena.h"
#include "engine/control.h"
#include "engine/segment.h"

namespace scrimp {

class Watcher;
struct Barrier;

enum class Progress { kIdle, kMoved, kDone };

// Something that peers must help to complete.
struct Waitable {
  virtual ~Waitable() = default;
  virtual Progress advance() = 0;
  virtual bool waits_for(int rank) const = 0;
};

// A peer died, got stuck, failed or left. The group is of no use any more.
struct PeerError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct Message {
  int peer;
  std::byte* data;
  std::size_t nbytes;
};

class Group {
 public:
  static constexpr int kMaxSize = 256;
  static constexpr std::size_t kFrameNbytes = 16;  // that exchange() puts before each message
  static constexpr int kSupervisor = -1;           // rank of the parent: it sees all and takes part in nothing

  // A new group; the caller is its supervisor and hands fd() to the ranks.
  static std::unique_ptr<Group> create(int size, std::size_t ring_nbytes = 0);
  // Takes part as `rank`. `timeout_s` bounds every wait that sees no progress. Owns `fd`.
  Group(int fd, int rank, double timeout_s);
  // A group of threads of this process, on one mapping: what a race detector can follow. Index = rank.
  static std::vector<std::unique_ptr<Group>> create_threads(int size, double timeout_s, std::size_t ring_nbytes = 0);
  ~Group();
  Group(const Group&) = delete;
  Group& operator=(const Group&) = delete;

  int size() const { return control_->size; }
  int rank() const { return rank_; }
  int fd() const { return segment_->fd(); }
  double timeout_s() const { return timeout_s_; }
  // Whether every rank has a core; all ranks answer alike.
  bool has_cores_for_all() const { return size() <= control_->cores; }
  // Waits of this rank that outlasted spinning: its peers did not run.
  std::uint64_t long_waits() const { return long_waits_; }
  // Whether ranks lacked cores lately. After a note that they did it is so 2 times, after the next 4, … 64 times; then it is
  // worth another look. All ranks note alike, after what all have heard.
  void note_crowd(bool crowded) {
    patience_ = crowded ? std::min(2 * patience_, 64) : 1;
    crowded_ = crowded ? patience_ : 0;
  }
  bool crowded() { return crowded_ > 0 && crowded_-- > 0; }

  // Whether a collective is on its way: two at once, by two threads of a process, would take each other's bytes.
  std::atomic<bool>& busy() { return busy_; }

  // Called about ten times a second while asleep and after a signal; what it throws ends the wait and the group.
  void on_wait(std::function<void()> poll) { poll_ = std::move(poll); }

  // Waits (at most `timeout_s`) until all ranks have come here; from then on, the death of a peer ends every wait.
  void start(double timeout_s, bool watch = true);
  // Says that this rank is through, so that its exit is no death. Peers that still wait for it get a PeerError.
  void leave(bool failed);

  void barrier(const std::string& label, std::uint32_t tag = 0);
  // The two halves of it, for operations of several barriers: enter once, then pass at each.
  void enter(std::uint32_t tag, const std::string& label);
  void pass(const std::string& label);
  // Sends and receives all messages at once, without deadlock, in order for each pair of ranks. `tag` and lengths must
  // agree on both sides. `label` says in errors what is going on; "%p" in it becomes the peer.
  void exchange(std::span<const Message> sends, std::span<const Message> recvs, std::uint32_t tag, const std::string& label);

  // Chooses the outboxes of the next operation; all ranks choose alike. Small ones alternate between two, so that nobody
  // writes where a peer may still read; large ones would fill memory twice: they share the third, behind a barrier.
  int next_outbox(std::size_t nbytes, const std::string& label);
  // Outbox `which` of `rank`, memory that all ranks can read, [nbytes]. The own one is allocated by this call, so peers
  // may look only after a barrier.
  std::byte* outbox(int rank, int which, std::size_t nbytes);
  // Memory of this process, kept from call to call: fresh pages cost more than what is done with them.
  std::byte* workspace(std::size_t nbytes);

  // Operations in chunks. A rank says that it is through with one more chunk; others wait until all have said so `count`
  // times, over all operations. The outbox kChunks is theirs: who returns from an operation has waited for all readers.
  static constexpr int kChunks = 3;
  void finish_chunk(Lane lane);
  void await_chunk(Lane lane, std::uint64_t count, const std::string& label);
  std::uint64_t chunks_done(Lane lane) const { return state(rank_).done[lane].load(); }
  // After an error: gives the other survivors a moment to get as far as this, so that none reads what this one then changes.
  void linger(Lane lane, std::uint64_t count);
  // Raises the error of all if a peer is in another operation; for the first chunk.
  void check_operations(const std::string& label);

  // Arrays that live in the segment (comm.empty). Tells the peers, from the next barrier on, where data[nbytes] lies.
  const std::shared_ptr<Arena>& arena() const { return arena_; }
  void publish_array(const void* data, std::size_t nbytes);
  // The arrays [nbytes] that the ranks have published, the own one as nullptr; empty if one of them lies elsewhere.
  std::vector<std::byte*> arrays(std::size_t nbytes);

  // One word to the peers about the own slice, before a barrier.
  void say(std::uint32_t verdict) { state(rank_).verdict.store(verdict); }
  std::uint32_t said(int rank) const { return state(rank).verdict.load(); }

  // Ends all waiting, now and later, on every rank. Only the first cause counts.
  void end(Cause cause, int rank);
  Ending ending() const;
  Phase phase(int rank) const;
  int pid(int rank) const;

 private:
  friend class Exchange;
  friend struct Barrier;
  friend struct Chunks;
  Group(std::shared_ptr<const Segment> segment, int rank, double timeout_s);

  RankState& state(int rank) const { return ranks_[rank]; }
  RingState& ring(int from, int to) const { return rings_[from * size() + to]; }
  std::byte* ring_data(int from, int to) const;
  void ring_doorbell(int rank);
  void ring_all();
  [[noreturn]] void raise(Cause cause, int culprit, const std::string& label);
  void check_ending(const std::string& label);
  void wait(Waitable& what, double timeout_s, const std::string& label);
  Progress sleep(Waitable& what, double& waited_s, double timeout_s, const std::string& label);
  void wait_barrier(double timeout_s, const std::string& label);
  // Takes back the entry of a rank that leaves a barrier with an error, so that nobody who comes later passes it: either all
  // ranks that live have passed, or none does, and what they change after it is the same. False if all have come meanwhile.
  bool withdraw(const Barrier& barrier);
  Ending absent(const Waitable& what) const;
  bool in_other_operation(int rank) const;
  int culprit(const Waitable& what) const;
  void count_beats();
  void poll_host();

  std::shared_ptr<const Segment> segment_;
  Control* control_;
  RankState* ranks_;
  RingState* rings_;
  std::byte* bytes_;
  std::shared_ptr<std::vector<Extent>> outboxes_;
  int rank_;
  std::atomic<bool> busy_ = false;
  int last_outbox_ = 0, crowded_ = 0, patience_ = 1;
  std::uint64_t long_waits_ = 0;
  std::vector<std::uint64_t> beats_;  // of all ranks when the present wait began
  std::shared_ptr<Arena> arena_;
  std::vector<Extent> arrays_;  // of the peers' arenas
  Workspace workspace_;
  double timeout_s_;
  int spins_;
  std::function<void()> poll_;
  std::unique_ptr<Watcher> watcher_;
};

}  // namespace scrimp
