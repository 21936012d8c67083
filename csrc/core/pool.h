#pragma once
// Threads that wait for the next parallel_for. They start with the first call that wants them, never at import; after a
// call they spin for some microseconds, then sleep; a forked child forgets them and starts its own; exit joins them.
#include <functional>

namespace scrimp {

// Calls part(0) … part(n_parts - 1), part(0) on this thread and the others on one waiting thread each; returns after all.
// A part must not throw.
// False, and nothing is called, while another thread of the process is using the pool.
bool run_in_pool(int n_parts, const std::function<void(int)>& part);

}  // namespace scrimp
