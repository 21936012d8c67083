#include "core/parallel.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

#include "core/check.h"
#include "core/fp_env.h"
#include "core/pool.h"

namespace scrimp {
namespace {

std::atomic<int> g_default_threads{0};

// The first of what the parts of a call threw: no other thread can pass it on, and none may leave while others work.
class FirstError {
 public:
  void keep(std::exception_ptr error) {
    const std::lock_guard lock(mutex_);
    if (!error_) error_ = std::move(error);
  }
  void rethrow() const {
    if (error_) std::rethrow_exception(error_);
  }

 private:
  std::mutex mutex_;
  std::exception_ptr error_;
};

}  // namespace

void set_default_threads(int threads) {
  require(threads >= 1, "threads must be >= 1, got ", threads);
  g_default_threads = threads;
}

int default_threads() {
  const int set = g_default_threads;
  return set ? set : std::max(1u, std::thread::hardware_concurrency());
}

int choose_threads(int requested, std::size_t traffic_nbytes) {
  require(requested >= 0, "threads must be >= 0 (0 = choose by size), got ", requested);
  if (requested) return requested;
  return traffic_nbytes < kSerialBytes ? 1 : default_threads();
}

void parallel_for(std::size_t n, std::size_t grain, int threads,
                  const std::function<void(std::size_t, std::size_t)>& body) {
  const std::size_t n_grains = (n + grain - 1) / grain;
  const std::size_t n_parts = std::clamp<std::size_t>(n_grains, 1, std::max(threads, 1));
  FirstError error;
  auto run = [&](std::size_t part) {
    FpEnv ieee;
    const std::size_t begin = n_grains * part / n_parts * grain;
    const std::size_t end = std::min(n, n_grains * (part + 1) / n_parts * grain);
    try {
      if (begin < end) body(begin, end);
    } catch (...) {
      error.keep(std::current_exception());
    }
  };
  const auto run_all = [&] {
    if (n_parts == 1) return run(0);
    if (run_in_pool(static_cast<int>(n_parts), [&](int part) { run(static_cast<std::size_t>(part)); })) return;
    std::vector<std::jthread> others;
    others.reserve(n_parts - 1);
    for (std::size_t part = 1; part < n_parts; ++part) others.emplace_back(run, part);
    run(0);
  };
  run_all();
  error.rethrow();
}

}  // namespace scrimp
