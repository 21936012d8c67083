#pragma once
// Threads of one call: those of the pool (core/pool.h), or some started for the call while another thread uses the pool.
// Not for files compiled per ISA: it holds std templates.
#include <cstddef>
#include <functional>

namespace scrimp {

// Threads that `threads=0` may use in this process; cores by default, cores / workers in a worker.
void set_default_threads(int threads);
int default_threads();

// How many threads to use: `requested` if positive, else by size: one below `kSerialBytes` of traffic.
int choose_threads(int requested, std::size_t traffic_nbytes);
constexpr std::size_t kSerialBytes = 256 * 1024;

// Calls body(begin, end) on disjoint ranges that cover [0, n); every boundary but the last is a multiple of `grain`.
// The floating-point control word is set to IEEE defaults around each call of body. When body throws, the others end
// their ranges, and the first error is thrown again here.
void parallel_for(std::size_t n, std::size_t grain, int threads,
                  const std::function<void(std::size_t begin, std::size_t end)>& body);

}  // namespace scrimp
