#include "engine/os.h"

#include <cerrno>
#include <stdexcept>

#ifdef __linux__
#include <linux/futex.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <climits>
#include <csignal>
#include <ctime>
#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif
#endif

namespace scrimp {

void unsupported_engine() {
  throw std::runtime_error("several workers on one machine need Linux >= 5.3; use workers=1 here");
}

#ifdef __linux__

static_assert(sizeof(std::atomic<std::uint32_t>) == 4 && std::atomic<std::uint32_t>::is_always_lock_free);

bool futex_wait(std::atomic<std::uint32_t>& word, std::uint32_t expected, int timeout_ms) {
  const timespec timeout{timeout_ms / 1000, (timeout_ms % 1000) * 1000000L};
  const long rc = syscall(SYS_futex, &word, FUTEX_WAIT, expected, &timeout, nullptr, 0);
  return rc == 0 || errno != EINTR;
}

void futex_wake_all(std::atomic<std::uint32_t>& word) {
  syscall(SYS_futex, &word, FUTEX_WAKE, INT_MAX, nullptr, nullptr, 0);
}

int open_pidfd(int pid) { return static_cast<int>(syscall(SYS_pidfd_open, pid, 0)); }

void die_with_parent(int parent) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) _exit(1);
}

int process_id() { return getpid(); }

int usable_cores() {
  cpu_set_t cores;
  return sched_getaffinity(0, sizeof cores, &cores) == 0 ? CPU_COUNT(&cores) : 1;
}

#else

bool futex_wait(std::atomic<std::uint32_t>&, std::uint32_t, int) { unsupported_engine(); }
void futex_wake_all(std::atomic<std::uint32_t>&) { unsupported_engine(); }
int open_pidfd(int) { return -1; }
void die_with_parent(int) { unsupported_engine(); }
int process_id() { unsupported_engine(); }
int usable_cores() { return 1; }

#endif

}  // namespace scrimp
