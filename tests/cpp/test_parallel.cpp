// Threads of a call: every value once, from several callers at a time, and in a forked child.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <stdexcept>
#include <thread>
#include <vector>

#include "core/parallel.h"

namespace scrimp {
namespace {

bool every_value_once(std::size_t n, int threads) {
  std::vector<std::atomic<int>> touched(n);
  parallel_for(n, 7, threads, [&](std::size_t begin, std::size_t end) {
    for (std::size_t i = begin; i < end; ++i) ++touched[i];
  });
  for (const auto& count : touched)
    if (count != 1) return false;
  return true;
}

TEST(Parallel, EveryValueIsVisitedOnce) {
  for (int threads : {1, 2, 3, 8, 2})
    for (std::size_t n : {0, 1, 6, 7, 8, 1000}) EXPECT_TRUE(every_value_once(n, threads)) << n << " on " << threads;
}

TEST(Parallel, CallersDoNotDisturbEachOther) {
  std::atomic<int> good{0};
  std::vector<std::thread> callers;
  for (int caller = 0; caller < 4; ++caller)
    callers.emplace_back([&] {
      for (int k = 0; k < 200; ++k) good += every_value_once(100, 3);
    });
  for (std::thread& caller : callers) caller.join();
  EXPECT_EQ(good, 800);
}

// Whether the error of one range reaches the caller, after the ranges of the other threads.
bool error_arrives(int threads, std::size_t bad) {
  std::vector<std::atomic<int>> touched(100);
  try {
    parallel_for(100, 7, threads, [&](std::size_t begin, std::size_t end) {
      if (begin <= bad && bad < end) throw std::runtime_error("bad");
      for (std::size_t i = begin; i < end; ++i) ++touched[i];
    });
  } catch (const std::runtime_error&) {
    std::size_t n_touched = 0;
    for (const auto& count : touched) n_touched += count == 1;
    return n_touched < 100 && (threads == 1 || n_touched >= 100 / 4);
  }
  return false;
}

TEST(Parallel, AnErrorOfAnyThreadReachesTheCaller) {
  for (int threads : {1, 2, 3})
    for (std::size_t bad : {0, 50, 99}) {
      EXPECT_TRUE(error_arrives(threads, bad)) << bad << " on " << threads;
      EXPECT_TRUE(every_value_once(1000, threads));
    }
}

TEST(Parallel, ErrorsBesideABusyPool) {
  std::atomic<int> good{0};
  std::vector<std::thread> callers;
  for (int caller = 0; caller < 4; ++caller)
    callers.emplace_back([&] {
      for (int k = 0; k < 100; ++k) good += error_arrives(3, 50);
    });
  for (std::thread& caller : callers) caller.join();
  EXPECT_EQ(good, 400);
}

TEST(Parallel, AForkedChildStartsItsOwnThreads) {
#if defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "ThreadSanitizer does not follow threads of a forked child";
#endif
  ASSERT_TRUE(every_value_once(1000, 3));
  const pid_t child = fork();
  if (child == 0) {
    alarm(20);
    _exit(every_value_once(1000, 3) ? 0 : 1);
  }
  int status = -1;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
  EXPECT_TRUE(every_value_once(1000, 3));
}

}  // namespace
}  // namespace scrimp
