#include "core/pool.h"

#include <pthread.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace scrimp {
namespace {

void breathe() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#else
  asm volatile("yield");
#endif
}

// Waits until `value` is no longer `old`: by spinning about as long as a wake-up takes, then asleep. It yields while it
// spins, or on a busy machine it would keep the awaited thread from its own core.
void wait_for_change(std::atomic<std::uint32_t>& value, std::uint32_t old) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::microseconds(30);
  do {
    for (int i = 0; i < 64; ++i) {
      if (value.load(std::memory_order_acquire) != old) return;
      breathe();
    }
    std::this_thread::yield();
  } while (std::chrono::steady_clock::now() < end);
  while (value.load(std::memory_order_acquire) == old) value.wait(old, std::memory_order_acquire);
}

class Pool {
 public:
  Pool() = default;
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  ~Pool() {
    part_ = nullptr;
    for (auto& worker : workers_) worker->wake();
    for (auto& worker : workers_) worker->thread.join();
  }

  void run(int n_parts, const std::function<void(int)>& part) {
    const std::size_t n_others = static_cast<std::size_t>(n_parts - 1);
    while (workers_.size() < n_others) start_worker();
    part_ = &part;
    pending_.store(static_cast<std::uint32_t>(n_others), std::memory_order_relaxed);
    for (std::size_t k = 0; k < n_others; ++k) workers_[k]->wake();
    part(0);
    for (std::uint32_t left; (left = pending_.load(std::memory_order_acquire)) != 0;) wait_for_change(pending_, left);
  }

 private:
  struct alignas(64) Worker {
    std::atomic<std::uint32_t> calls{0};
    std::thread thread;

    void wake() {
      calls.fetch_add(1, std::memory_order_release);
      calls.notify_one();
    }
  };

  void start_worker() {
    const int index = static_cast<int>(workers_.size()) + 1;
    auto worker = std::make_unique<Worker>();
    workers_.reserve(workers_.size() + 1);  // nothing may fail between the thread's start and its entry
    worker->thread = std::thread([this, it = worker.get(), index] { work(*it, index); });
    workers_.push_back(std::move(worker));
  }

  void work(Worker& worker, int index) {
    for (std::uint32_t seen = 0;; ++seen) {
      wait_for_change(worker.calls, seen);
      if (!part_) return;
      (*part_)(index);
      if (pending_.fetch_sub(1, std::memory_order_acq_rel) == 1) pending_.notify_one();
    }
  }

  std::vector<std::unique_ptr<Worker>> workers_;
  const std::function<void(int)>* part_ = nullptr;  // nullptr: the threads shall end
  std::atomic<std::uint32_t> pending_{0};
};

std::mutex g_mutex;
std::unique_ptr<Pool> g_pool;

// A fork waits for a running call; the child has none of the threads, so it must not join them.
void register_fork_handlers() {
  static const int registered = pthread_atfork([] { g_mutex.lock(); }, [] { g_mutex.unlock(); },
                                               [] {
                                                 static_cast<void>(g_pool.release());
                                                 g_mutex.unlock();
                                               });
  static_cast<void>(registered);
}

}  // namespace

bool run_in_pool(int n_parts, const std::function<void(int)>& part) {
  std::unique_lock lock(g_mutex, std::try_to_lock);
  if (!lock) return false;
  if (!g_pool) {
    register_fork_handlers();
    g_pool = std::make_unique<Pool>();
  }
  g_pool->run(n_parts, part);
  return true;
}

}  // namespace scrimp
