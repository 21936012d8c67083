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
    sum(i, count);
    float* total = total_.data();
    if (what_.mean) divide(total, count, static_cast<int>(what_.parts.size()));
    if (what_.owned) add(total, what_.owned + i, count);
    const EncodeRun encode{total, count, what_.out + codec_.nbytes(i), &codec_.options(), rng_key(what_.seed, what_.step),
                           what_.first_index + i, Nonfinite::kPropagate};
    const std::size_t stop = codec_.kernels().encode(encode);
    if (stop != kAllEncoded && failed == kAllEncoded) failed = i + stop;
    // Codecs that refuse what is not finite decode finite values alone: looking at the sum is enough.
    if (!what_.owned && !what_.decoded && !codec_.kernels().passes_nonfinite && is_tame(total, count)) return;
    float* decoded = what_.decoded ? what_.decoded + i : decoded_.data();
    codec_.kernels().decode({what_.out + codec_.nbytes(i), count, decoded, false, &codec_.options()});
    if (what_.owned)
      for (std::size_t j = 0; j < count; ++j) what_.owned[i + j] = total[j] - decoded[j];
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
