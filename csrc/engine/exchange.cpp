// Messages between any ranks at once, through one ring of bytes for each ordered pair.
#include <algorithm>
#include <span>
#include <vector>

#include "core/check.h"
#include "engine/group.h"

namespace scrimp {

// All messages of one exchange; each pair of ranks handles its own in order.
class Exchange final : public Waitable {
 public:
  Exchange(Group& group, std::span<const Message> sends, std::span<const Message> recvs, std::uint32_t tag)
      : group_(group), tag_(tag) {
    for (const Message& m : sends) add(sends_, m);
    for (const Message& m : recvs) add(recvs_, m);
  }

  Progress advance() override {
    bool moved = false, done = true;
    std::vector<bool>& busy = busy_;
    busy.assign(group_.size(), false);
    for (Transfer& t : sends_) done &= step(t, busy, moved, &Exchange::send);
    busy.assign(group_.size(), false);
    for (Transfer& t : recvs_) done &= step(t, busy, moved, &Exchange::receive);
    return done ? Progress::kDone : moved ? Progress::kMoved : Progress::kIdle;
  }

  bool waits_for(int rank) const override {
    auto open = [rank](const Transfer& t) { return t.message.peer == rank && !t.complete(); };
    return std::any_of(recvs_.begin(), recvs_.end(), open) || std::any_of(sends_.begin(), sends_.end(), open);
  }

  bool mismatched() const { return mismatched_; }

 private:
  struct Frame {
    std::uint64_t nbytes;
    std::uint32_t tag, magic;
  };
  static_assert(sizeof(Frame) == Group::kFrameNbytes);

  struct Transfer {
    Message message;
    Frame frame;
    std::size_t moved = 0;  // bytes of frame and message
    std::size_t total() const { return sizeof(Frame) + message.nbytes; }
    bool complete() const { return moved == total(); }
    // The contiguous bytes that come next.
    std::span<std::byte> next() {
      if (moved < sizeof(Frame)) return {reinterpret_cast<std::byte*>(&frame) + moved, sizeof(Frame) - moved};
      return {message.data + (moved - sizeof(Frame)), total() - moved};
    }
  };

  void add(std::vector<Transfer>& transfers, const Message& m) {
    require(m.peer >= 0 && m.peer < group_.size() && m.peer != group_.rank(), "peer must be another rank of 0…",
            group_.size() - 1, ", got ", m.peer);
    transfers.push_back({m, {m.nbytes, tag_, kControlMagic}});
  }

  bool step(Transfer& t, std::vector<bool>& busy, bool& moved, void (Exchange::*move)(Transfer&)) {
    if (!t.complete() && !busy[t.message.peer]) {
      const std::size_t before = t.moved;
      (this->*move)(t);
      if (t.moved != before) {
        moved = true;
        group_.ring_doorbell(t.message.peer);
      }
    }
    if (!t.complete()) busy[t.message.peer] = true;
    return t.complete();
  }

  void send(Transfer& t) {
    const std::size_t capacity = group_.control_->ring_nbytes;
    RingState& ring = group_.ring(group_.rank(), t.message.peer);
    std::byte* data = group_.ring_data(group_.rank(), t.message.peer);
    std::uint64_t written = ring.written.load(std::memory_order_relaxed);
    std::size_t room = std::min(capacity - (written - ring.read.load()), std::max<std::size_t>(capacity / 4, 64));
    while (room && !t.complete()) {
      const std::span<std::byte> next = t.next();
      const std::size_t at = written & (capacity - 1);
      const std::size_t n = std::min({next.size(), room, capacity - at});
      std::copy_n(next.data(), n, data + at);
      t.moved += n, written += n, room -= n;
    }
    ring.written.store(written);
  }

  void receive(Transfer& t) {
    const std::size_t capacity = group_.control_->ring_nbytes;
    RingState& ring = group_.ring(t.message.peer, group_.rank());
    const std::byte* data = group_.ring_data(t.message.peer, group_.rank());
    std::uint64_t read = ring.read.load(std::memory_order_relaxed);
    std::size_t ready = ring.written.load() - read;
    while (ready && !t.complete()) {
      const std::span<std::byte> next = t.next();
      const std::size_t at = read & (capacity - 1);
      const std::size_t n = std::min({next.size(), ready, capacity - at});
      std::copy_n(data + at, n, next.data());
      t.moved += n, read += n, ready -= n;
      if (t.moved == sizeof(Frame) && !fits(t)) {
        mismatched_ = true;
        group_.end(Cause::kMismatch, t.message.peer);
        break;
      }
    }
    ring.read.store(read);
  }

  bool fits(const Transfer& t) const {
    return t.frame.nbytes == t.message.nbytes && t.frame.tag == tag_ && t.frame.magic == kControlMagic;
  }

  Group& group_;
  std::uint32_t tag_;
  std::vector<Transfer> sends_, recvs_;
  std::vector<bool> busy_;
  bool mismatched_ = false;
};

void Group::exchange(std::span<const Message> sends, std::span<const Message> recvs, std::uint32_t tag,
                     const std::string& label) {
  enter(tag, label);
  Exchange exchange(*this, sends, recvs, tag);
  wait(exchange, timeout_s_, label);
  if (exchange.mismatched()) check_ending(label);
}

}  // namespace scrimp
