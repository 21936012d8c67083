#pragma once
// The few calls to the operating system that the local engine needs: futex, pidfd, death signal. Linux only; elsewhere
// they throw, and the package runs with one worker.
#include <atomic>
#include <cstdint>

namespace scrimp {

[[noreturn]] void unsupported_engine();

// Sleeps while `word` holds `expected`, for at most `timeout_ms`. False if a signal ended the sleep.
bool futex_wait(std::atomic<std::uint32_t>& word, std::uint32_t expected, int timeout_ms);
void futex_wake_all(std::atomic<std::uint32_t>& word);

// A descriptor that becomes readable when process `pid` ends; -1 if there is no such process or no such call.
int open_pidfd(int pid);

// Has the kernel kill this process when its parent ends; exits at once if `parent` has ended already.
void die_with_parent(int parent);

int process_id();
int usable_cores();

}  // namespace scrimp
