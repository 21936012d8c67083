// The local engine: barrier and exchange with threads as ranks (what TSan follows), death with real processes.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstring>
#include <functional>
#include <thread>
#include <vector>

#include "engine/group.h"
#include "engine/watcher.h"

namespace scrimp {
namespace {

// Runs body(group) on one thread a rank.
void on_all_ranks(int size, std::size_t ring_nbytes, const std::function<void(Group&)>& body, double timeout_s = 20) {
  std::vector<std::unique_ptr<Group>> groups = Group::create_threads(size, timeout_s, ring_nbytes);
  std::vector<std::jthread> ranks;
  for (const std::unique_ptr<Group>& group : groups)
    ranks.emplace_back([&] {
      group->start(timeout_s, false);
      body(*group);
      group->leave(false);
    });
}

std::vector<std::byte> pattern(int from, int to, std::size_t nbytes) {
  std::vector<std::byte> data(nbytes);
  for (std::size_t i = 0; i < nbytes; ++i) data[i] = static_cast<std::byte>(i * 7 + static_cast<std::size_t>(from * 31 + to));
  return data;
}

TEST(Engine, NobodyPassesABarrierBeforeAllHaveCome) {
  for (const int size : {1, 2, 3, 5}) {
    std::vector<int> entered(static_cast<std::size_t>(size));  // plain ints: only the barrier orders them
    on_all_ranks(size, 0, [&](Group& group) {
      for (int round = 1; round <= 200; ++round) {
        entered[static_cast<std::size_t>(group.rank())] = round;
        group.barrier("test");
        for (const int other : entered) EXPECT_EQ(other, round);
        group.barrier("test");
      }
    });
  }
}

TEST(Engine, ExchangeDeliversEveryByteAtEverySize) {
  for (const std::size_t ring_nbytes : {64u, 4096u}) {
    on_all_ranks(3, ring_nbytes, [&](Group& group) {
      for (const std::size_t nbytes : {0u, 1u, 15u, 48u, 63u, 64u, 65u, 1000u, 70001u}) {
        std::vector<std::vector<std::byte>> out(3), in(3);
        std::vector<Message> sends, recvs;
        for (int peer = 0; peer < 3; ++peer) {
          if (peer == group.rank()) continue;
          const auto p = static_cast<std::size_t>(peer);
          out[p] = pattern(group.rank(), peer, nbytes + p);
          in[p].resize(nbytes + static_cast<std::size_t>(group.rank()));
          sends.push_back({peer, out[p].data(), out[p].size()});
          recvs.push_back({peer, in[p].data(), in[p].size()});
        }
        group.exchange(sends, recvs, static_cast<std::uint32_t>(nbytes), "test");
        for (const Message& m : recvs) EXPECT_EQ(in[static_cast<std::size_t>(m.peer)], pattern(m.peer, group.rank(), m.nbytes));
      }
    });
  }
}

TEST(Engine, MessagesOfOnePairKeepTheirOrder) {
  on_all_ranks(2, 64, [](Group& group) {
    std::vector<std::byte> a = pattern(0, 1, 300), b = pattern(1, 0, 5), c(300), d(5);
    if (group.rank() == 0) {
      const Message sends[] = {{1, a.data(), a.size()}, {1, b.data(), b.size()}};
      group.exchange(sends, {}, 1, "test");
    } else {
      const Message recvs[] = {{0, c.data(), c.size()}, {0, d.data(), d.size()}};
      group.exchange({}, recvs, 1, "test");
      EXPECT_EQ(a, c);
      EXPECT_EQ(b, d);
    }
  });
}

std::string error_of(const std::function<void()>& body) {
  try {
    body();
  } catch (const PeerError& e) {
    return e.what();
  }
  return "no error";
}

TEST(Engine, AnotherTagOrLengthIsAnErrorOnBothRanks) {
  for (const bool other_length : {false, true})
    on_all_ranks(2, 0, [&](Group& group) {
      std::byte out[8] = {}, in[8];
      const bool odd = group.rank() == 1;
      const Message send{1 - group.rank(), out, odd && other_length ? 7u : 8u}, recv{1 - group.rank(), in, send.nbytes};
      const std::string text = error_of([&] {
        group.exchange({&send, 1}, {&recv, 1}, odd && !other_length ? 2 : 1, "test");
        group.barrier("after");
      });
      EXPECT_NE(text.find("another collective"), std::string::npos) << text;
    });
}

TEST(Engine, ARankThatReturnedIsNotWaitedFor) {
  on_all_ranks(3, 0, [](Group& group) {
    if (group.rank() == 1) return;
    EXPECT_EQ(error_of([&] { group.barrier("the test"); }),
              "rank 1 has returned and takes no part; rank " + std::to_string(group.rank()) + " was in the test");
  });
}

TEST(Engine, AStuckRankEndsTheWaitOfAllAfterTheTimeout) {
  std::vector<std::unique_ptr<Group>> groups = Group::create_threads(3, 0.2);
  std::vector<std::jthread> ranks;
  for (const std::size_t rank : {0u, 2u})
    ranks.emplace_back([&, rank] {
      const std::string text = error_of([&] { groups[rank]->barrier("the test"); });
      EXPECT_TRUE(text.find("from rank 1 within 0.2 s in the test") != std::string::npos ||
                  text.find("rank 1 is stuck") != std::string::npos)
          << text;
    });
}

// What follows a barrier may change what others read: it follows for all that live, or for none.
TEST(Engine, ABarrierThatOneRankHasLeftIsPassedByNone) {
  std::vector<std::unique_ptr<Group>> groups = Group::create_threads(3, 20);
  for (const std::unique_ptr<Group>& group : groups) group->enter(0, "the test");
  std::jthread first([&] { EXPECT_THROW(groups[0]->pass("the test"), PeerError); });
  groups[1]->end(Cause::kDied, 2);  // as its watcher would, were rank 2 not about to enter
  first.join();
  EXPECT_THROW(groups[1]->pass("the test"), PeerError);
  EXPECT_THROW(groups[2]->pass("the test"), PeerError);
}

TEST(Engine, WhoWaitsForAStuckRankIsNotBlamedForIt) {
  std::vector<std::unique_ptr<Group>> groups = Group::create_threads(3, 0.5);
  std::vector<std::jthread> ranks;
  for (const int rank : {0, 1})  // 0 waits for 1, which waits for 2, which never comes
    ranks.emplace_back([&, rank] {
      std::byte in;
      const Message recv{rank + 1, &in, 1};
      const std::string text = error_of([&] { groups[static_cast<std::size_t>(rank)]->exchange({}, {&recv, 1}, 1, "test"); });
      EXPECT_NE(text.find("rank 2"), std::string::npos) << text;
    });
}

TEST(Engine, WhatPollThrowsEndsTheWaitOfAll) {
  struct Stop {};
  on_all_ranks(2, 0, [](Group& group) {
    if (group.rank() == 0) {
      group.on_wait([] { throw Stop(); });
      std::byte in;
      const Message recv{1, &in, 1};
      EXPECT_THROW(group.exchange({}, {&recv, 1}, 0, "test"), Stop);
    } else {
      EXPECT_EQ(error_of([&] {
                  for (;;) group.barrier("test");
                }),
                "rank 0 was interrupted; rank 1 was in test");
    }
  });
}

TEST(Engine, RefusesWhatIsNoGroup) {
  Segment segment = Segment::create(4096);
  EXPECT_THROW(Group(dup(segment.fd()), 0, 1), std::invalid_argument);
  EXPECT_THROW(Group::create(0), std::invalid_argument);
  EXPECT_THROW(Group::create(2, 100), std::invalid_argument);
}

TEST(Engine, TheWatcherTellsOfEachEnd) {
  int pipe_fds[2];
  ASSERT_EQ(pipe(pipe_fds), 0);
  const pid_t child = fork();
  if (child == 0) {
    char byte;
    [[maybe_unused]] const auto n = read(pipe_fds[0], &byte, 1);
    _exit(0);
  }
  std::atomic<int> gone{-1};
  {
    Watcher watcher({0, child}, [&](int index) {
      gone = index;
      gone.notify_all();
    });
    EXPECT_EQ(gone, -1);
    kill(child, SIGKILL);
    gone.wait(-1);
    EXPECT_EQ(gone, 1);
  }
  waitpid(child, nullptr, 0);
  close(pipe_fds[0]);
  close(pipe_fds[1]);
}

}  // namespace
}  // namespace scrimp
