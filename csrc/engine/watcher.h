#pragma once
// A thread that sleeps until a watched process ends (pidfd), without taking a core and without the interpreter.
#include <functional>
#include <thread>
#include <vector>

namespace scrimp {

class Watcher {
 public:
  // Calls gone(index) once for every process of `pids` that ends, or has ended; 0 is not watched.
  Watcher(const std::vector<int>& pids, std::function<void(int index)> gone);
  ~Watcher();
  Watcher(const Watcher&) = delete;
  Watcher& operator=(const Watcher&) = delete;

 private:
  void watch();

  std::vector<int> pidfds_;
  std::function<void(int)> gone_;
  int stop_fd_;
  std::thread thread_;
};

}  // namespace scrimp
