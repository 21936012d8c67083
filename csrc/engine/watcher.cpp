#include "engine/watcher.h"

#include "engine/os.h"

#ifdef __linux__
#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <csignal>
#include <cstdint>
#endif

namespace scrimp {

#ifdef __linux__

Watcher::Watcher(const std::vector<int>& pids, std::function<void(int)> gone)
    : gone_(std::move(gone)), stop_fd_(eventfd(0, EFD_CLOEXEC)) {
  for (std::size_t i = 0; i < pids.size(); ++i) {
    pidfds_.push_back(pids[i] ? open_pidfd(pids[i]) : -1);
    if (pids[i] && pidfds_.back() < 0) gone_(static_cast<int>(i));
  }
  // Signals belong to the threads of the host program.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  thread_ = std::thread([this] { watch(); });
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

Watcher::~Watcher() {
  const std::uint64_t one = 1;
  while (::write(stop_fd_, &one, sizeof one) != sizeof one) {
  }
  thread_.join();
  for (const int fd : pidfds_)
    if (fd >= 0) ::close(fd);
  ::close(stop_fd_);
}

void Watcher::watch() {
  std::vector<pollfd> polled{{stop_fd_, POLLIN, 0}};
  for (const int fd : pidfds_) polled.push_back({fd, POLLIN, 0});
  for (;;) {
    if (::poll(polled.data(), polled.size(), -1) < 0) continue;
    if (polled[0].revents) return;
    for (std::size_t i = 1; i < polled.size(); ++i) {
      if (!polled[i].revents) continue;
      polled[i].fd = -1;
      gone_(static_cast<int>(i - 1));
    }
  }
}

#else

Watcher::Watcher(const std::vector<int>&, std::function<void(int)>) : stop_fd_(-1) { unsupported_engine(); }
Watcher::~Watcher() = default;
void Watcher::watch() {}

#endif

}  // namespace scrimp
