#include "engine/combine.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <vector>

#include "core/check.h"
#include "core/parallel.h"
#include "core/rng.h"
#include "engine/numeric.h"

namespace scrimp {
namespace {

constexpr std::size_t kChunk = 4096;   // values handled at once: they stay in the first-level cache
constexpr std::size_t kGrain = 16384;  // that a thread takes at least

class Worker {
 public:
  explicit Worker(const Combine& what) : what_(what), codec_(*what.codec), total_(kChunk), decoded_(kChunk) {}

  void run(std::size_t i, std::size_t count) {
    EncodeRun run{total_.data(), count, what_.out + codec_.nbytes(i), &codec_.options(), rng_key(what_.seed, what_.step),
                  what_.first_index + i, Nonfinite::kPropagate};
    if (what_.parts.size() == 2) {
      run.x = what_.own + i;
      run.plus_first = what_.parts[0] != nullptr;
      run.plus = what_.parts[run.plus_first ? 0 : 1] + codec_.nbytes(i);
      run.factor = what_.mean ? 0.5f : 1.0f;
    } else {
      sum(i, count);
      if (what_.mean) divide(total_.data(), count, static_cast<int>(what_.parts.size()));
    }
    if (what_.owned) {
      run.feedback = Feedback::kEf14;
      run.state = what_.owned + i;
    }
    std::uint32_t top = 0;
    run.top = &top;
    const std::size_t stop = codec_.kernels().encode(run);
    if (stop != kAllEncoded && failed == kAllEncoded) failed = i + stop;
    if (!what_.decoded && top <= codec_.kernels().tame_bits) return;
    float* decoded = what_.decoded ? what_.decoded + i : decoded_.data();
    codec_.kernels().decode({what_.out + codec_.nbytes(i), count, decoded, false, &codec_.options()});
    finite = finite && all_finite(decoded, count);
  }

  std::size_t failed = kAllEncoded;
  bool finite = true;

 private:
  // In the order of ranks, so that every owner rounds alike.
  void sum(std::size_t i, std::size_t count) {
    float* total = total_.data();
    for (std::size_t rank = 0; rank < what_.parts.size(); ++rank) {
      const std::uint8_t* part = what_.parts[rank];
      const float* own = what_.own + i;
      if (part) {
        codec_.kernels().decode({part + codec_.nbytes(i), count, total, rank > 0, &codec_.options()});
      } else if (rank == 0) {
        std::copy_n(own, count, total);
      } else {
        add(total, own, count);
      }
    }
  }

  const Combine& what_;
  const Codec& codec_;
  std::vector<float> total_, decoded_;
};

}  // namespace

Combined combine(const Combine& what) {
  require(std::count(what.parts.begin(), what.parts.end(), nullptr) == 1, "one of the parts is the own, the others are encoded");
  require(kChunk % what.codec->block() == 0, "blocks of ", what.codec->block(), " do not fit into chunks of ", kChunk);
  std::atomic<std::size_t> failed{kAllEncoded};
  std::atomic<bool> finite{true};
  const int threads = choose_threads(what.threads, what.n * sizeof(float) * what.parts.size());
  parallel_for(what.n, kGrain, threads, [&](std::size_t begin, std::size_t end) {
    Worker worker(what);
    for (std::size_t i = begin; i < end; i += kChunk) worker.run(i, std::min(kChunk, end - i));
    std::size_t seen = failed;
    while (worker.failed < seen && !failed.compare_exchange_weak(seen, worker.failed)) {
    }
    if (!worker.finite) finite = false;
  });
  return {failed, finite};
}

}  // namespace scrimp
