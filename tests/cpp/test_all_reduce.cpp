// The native all-reduce with threads as ranks: what the sanitizers watch. Its numbers are pinned against the generic
// implementation in tests/test_comm.py.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <limits>
#include <thread>
#include <vector>

#include "engine/collectives.h"
#include "engine/numeric.h"
#include "kernels/table.h"

namespace scrimp {
namespace {

void on_all_ranks(int size, const std::function<void(Group&)>& body) {
  (void)active_table();  // an ISA that this CPU lacks is named here, where it can be caught, not in a rank's thread
  std::vector<std::unique_ptr<Group>> groups = Group::create_threads(size, 20);
  std::vector<std::jthread> ranks;
  for (const std::unique_ptr<Group>& group : groups)
    ranks.emplace_back([&] {
      group->start(20, false);
      body(*group);
      group->leave(false);
    });
}

ReduceCall sum_of(std::size_t n, std::size_t block = 1) {
  return {n, false, false, static_cast<std::uint32_t>(n), "test", block};
}

float value(int rank, std::size_t i) { return static_cast<float>(rank + 1) * (static_cast<float>(i % 97) - 48); }

// Two ranks have a core each on most machines and send large sums chunk by chunk; more ranks than cores do not.
TEST(AllReduce, RawSumsOfAllLengthsInAnyOrderOfSizes) {
  for (const int size : {2, 3})
    on_all_ranks(size, [size](Group& group) {
      for (const std::size_t n : {0u, 1u, 2u, 70001u, 5u, 1100000u, 16384u, 1100001u}) {
        std::vector<double> x(n);
        for (std::size_t i = 0; i < n; ++i) x[i] = value(group.rank(), i);
        EXPECT_EQ(all_reduce_raw(group, sum_of(n), x.data()).kind, Outcome::kFinite);
        for (std::size_t i = 0; i < n; ++i) ASSERT_EQ(x[i], value(0, i) + value(1, i) + (size > 2 ? value(2, i) : 0));
      }
    });
}

template <class T>
void expect_last_sum_equals_its_parts(int divisor, T special) {
  std::vector<T> a(133), b(133), total(133);
  for (std::size_t i = 0; i < a.size(); ++i) a[i] = static_cast<T>(value(0, i)), b[i] = static_cast<T>(value(1, i + 5));
  b[131] = special;
  std::vector<T> expected(133);
  sum(a.data(), b.data(), a.size(), expected.data());
  divide(expected.data(), expected.size(), divisor);
  EXPECT_EQ(sum_last(a.data(), b.data(), a.size(), divisor, total.data()), all_finite(expected.data(), expected.size()));
  EXPECT_EQ(std::memcmp(total.data(), expected.data(), total.size() * sizeof(T)), 0);
  sum_last(a.data(), b.data(), a.size(), divisor, a.data());  // total may be a
  EXPECT_EQ(std::memcmp(a.data(), expected.data(), total.size() * sizeof(T)), 0);
}

TEST(AllReduce, TheLastSumDividesAndJudgesAsTheStepsApartDo) {
  for (const int divisor : {1, 2, 3, 8}) {
    for (const float special : {0.f, 3e38f, std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()}) {
      expect_last_sum_equals_its_parts<float>(divisor, special);
      expect_last_sum_equals_its_parts<double>(divisor, special);
    }
  }
}

template <class T>
bool same_bytes(const std::vector<T>& a, const std::vector<T>& b) {
  return a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0;
}

// Arrays of n values that begin anywhere, with `special` among the others'.
template <class T>
void expect_both_sums_equal_the_last_sum(std::size_t n, std::size_t skip, T special, bool other_first, bool back) {
  std::vector<T> mine(n + skip), theirs(n + skip);
  for (std::size_t i = 0; i < mine.size(); ++i) mine[i] = static_cast<T>(value(0, i)), theirs[i] = static_cast<T>(value(1, i + 5));
  if (n) theirs[skip + n / 2] = special;
  for (const int divisor : {1, std::is_integral_v<T> ? 1 : 2})
    for (const int keeping : {0, 1, 2}) {
      std::vector<T> x = mine, other = theirs, kept(n + skip), expected = mine;
      const T *a = mine.data() + skip, *b = theirs.data() + skip;
      const bool finite = sum_last(other_first ? b : a, other_first ? a : b, n, divisor, expected.data() + skip);
      EXPECT_EQ(sum_both(x.data() + skip, other.data() + skip, other_first, back, n, divisor == 2,
                         keeping ? kept.data() + skip : nullptr, keeping == 2), finite);
      EXPECT_TRUE(same_bytes(x, expected));
      std::copy_n(theirs.begin(), skip, expected.begin());
      EXPECT_TRUE(same_bytes(other, back ? expected : theirs));
      if (!keeping) continue;
      std::copy_n(mine.begin(), skip, kept.begin());
      EXPECT_TRUE(same_bytes(kept, mine));
      std::vector<T> to(n + skip), kept_again(n + skip);
      copy_keeping(a, n, to.data() + skip, kept_again.data() + skip, keeping == 2);
      EXPECT_TRUE(!n || std::memcmp(to.data() + skip, a, n * sizeof(T)) == 0);
      EXPECT_TRUE(!n || std::memcmp(kept_again.data() + skip, a, n * sizeof(T)) == 0);
    }
}

TEST(AllReduce, SumsOfBothKeepWhatWasThereAndEqualTheLastSum) {
  for (const std::size_t n : {0u, 1u, 7u, 31u, 32u, 33u, 133u, 1000u})
    for (const std::size_t skip : {0u, 1u, 4u})
      for (const bool other_first : {false, true})
        for (const bool back : {false, true}) {
          for (const double special : {0.0, 3e38, std::numeric_limits<double>::infinity(), std::numeric_limits<double>::quiet_NaN()}) {
            expect_both_sums_equal_the_last_sum(n, skip, static_cast<float>(special), other_first, back);
            expect_both_sums_equal_the_last_sum(n, skip, special, other_first, back);
          }
          expect_both_sums_equal_the_last_sum(n, skip, std::numeric_limits<std::int32_t>::max(), other_first, back);
          expect_both_sums_equal_the_last_sum(n, skip, std::numeric_limits<std::int64_t>::max(), other_first, back);
        }
}

template <class T>
void expect_sums_wrap() {
  std::vector<T> a(133, std::numeric_limits<T>::max()), b(133), total(133);
  for (std::size_t i = 0; i < b.size(); ++i) b[i] = static_cast<T>(i);
  sum(a.data(), b.data(), a.size(), total.data());
  add(a.data(), b.data(), a.size());
  for (std::size_t i = 0; i < b.size(); ++i) ASSERT_EQ(total[i], i ? std::numeric_limits<T>::min() + b[i] - 1 : a[0]);
  EXPECT_EQ(a, total);
}

TEST(AllReduce, SumsOfIntegersWrap) {
  expect_sums_wrap<std::int32_t>();
  expect_sums_wrap<std::int64_t>();
}

// The arrays lie where the peers read them; the world is dropped before the arrays are.
void expect_segment_arrays_are_reduced(int size, std::size_t n) {
  for (const bool shared_by_all : {true, false}) {
    on_all_ranks(size, [&](Group& group) {
      const std::shared_ptr<std::byte> memory = group.arena()->allocate(n * sizeof(float));
      std::vector<float> own(n);
      float* x = shared_by_all || group.rank() ? reinterpret_cast<float*>(memory.get()) : own.data();
      for (int round = 0; round < 3; ++round) {
        for (std::size_t i = 0; i < n; ++i) x[i] = value(group.rank(), i);
        EXPECT_EQ(all_reduce_raw(group, sum_of(n), x).kind, Outcome::kFinite);
        for (std::size_t i = 0; i < n; ++i) ASSERT_EQ(x[i], value(0, i) + value(1, i) + (size > 2 ? value(2, i) : 0));
        if (group.rank() == 1) x[n - 1] = std::numeric_limits<float>::infinity();
        const float before = x[0];
        EXPECT_EQ(all_reduce_raw(group, sum_of(n), x).kind, Outcome::kNonfinite);
        EXPECT_EQ(x[0], before);
      }
    });
  }
}

TEST(AllReduce, ArraysOfTheSegmentAreReducedInPlace) {
  expect_segment_arrays_are_reduced(3, 700001);
  expect_segment_arrays_are_reduced(2, 8500001);  // so many that ranks with cores of their own do not send chunks
}

TEST(AllReduce, ScatterAndGatherAndBroadcastGiveWhatTheyShould) {
  on_all_ranks(3, [](Group& group) {
    const Codec codec("int8", {});
    for (const std::size_t n : {0u, 5u, 1000u, 100003u}) {
      ReduceCall call = sum_of(n);
      call.block = codec.block();
      const Range own = shard(n, 3, group.rank(), call.block);
      std::vector<float> x(n), out(own.size()), all(n);
      for (std::size_t i = 0; i < n; ++i) x[i] = value(group.rank(), i);
      EXPECT_EQ(reduce_scatter_raw(group, call, x.data(), out.data()).kind, Outcome::kFinite);
      for (std::size_t i = 0; i < out.size(); ++i)
        ASSERT_EQ(out[i], value(0, own.begin + i) + value(1, own.begin + i) + value(2, own.begin + i));
      EXPECT_EQ(reduce_scatter(group, call, {x.data(), &codec, 0, 0, 0, 0}, out.data()).kind, Outcome::kFinite);
      EXPECT_EQ(all_gather(group, call, {out.data(), &codec, 0, 0, 0, 0}, all.data()).kind, Outcome::kFinite);
      for (std::size_t i = 0; i < n; ++i) ASSERT_NEAR(all[i], value(0, i) + value(1, i) + value(2, i), 4);
      EXPECT_EQ(broadcast(group, call, {x.data(), &codec, 0, 0, 0, 0}, 1).kind, Outcome::kFinite);
      for (std::size_t i = 0; i < n; ++i) ASSERT_NEAR(x[i], value(1, i), 1);
      ReduceCall bytes = sum_of(n * sizeof(float));
      broadcast_raw(group, bytes, reinterpret_cast<std::byte*>(all.data()), 2);
      for (std::size_t i = 0; i < n; ++i) ASSERT_NEAR(all[i], value(0, i) + value(1, i) + value(2, i), 4);
    }
  });
}

void expect_equal_results(int size, Feedback feedback) {
  const std::size_t n = 50001;
  std::vector<std::vector<float>> results(static_cast<std::size_t>(size));
  on_all_ranks(size, [&](Group& group) {
    const Codec codec("int4", {});
    std::vector<float> x(n), sent(n), owned(n), estimate(n);
    for (int step = 0; step < 3; ++step) {
      for (std::size_t i = 0; i < n; ++i) x[i] = value(group.rank(), i);
      const std::uint64_t seed = static_cast<std::uint64_t>(group.rank());
      EncodedReduce what{x.data(), &codec, seed, seed + 7, static_cast<std::uint64_t>(step), 0,
                         feedback, sent.data(), owned.data(), estimate.data()};
      EXPECT_EQ(all_reduce(group, sum_of(n, codec.block()), what).kind, Outcome::kFinite);
    }
    results[static_cast<std::size_t>(group.rank())] = x;
  });
  for (const std::vector<float>& result : results) EXPECT_EQ(result, results[0]);
  for (std::size_t i = 0; i < n; ++i)
    ASSERT_NEAR(results[0][i], value(0, i) + value(1, i) + (size > 2 ? value(2, i) : 0), 60);
}

// Two ranks encode the sum in one pass, more in steps.
TEST(AllReduce, EncodedResultsAreEqualOnAllRanksWithEveryFeedback) {
  for (const int size : {2, 3})
    for (const Feedback feedback : {Feedback::kNone, Feedback::kEf14, Feedback::kEf21}) expect_equal_results(size, feedback);
}

TEST(AllReduce, NothingIsWrittenWhenAnyValueIsNotFinite) {
  on_all_ranks(2, [](Group& group) {
    const Codec codec("int8", {});
    std::vector<float> x(1000, 1.0f);
    if (group.rank() == 1) x[10] = std::numeric_limits<float>::quiet_NaN();
    EXPECT_EQ(all_reduce(group, sum_of(1000, codec.block()), {x.data(), &codec, 0, 0, 0, 0}).kind, Outcome::kNonfinite);
    EXPECT_EQ(all_reduce_raw(group, sum_of(1000), x.data()).kind, Outcome::kNonfinite);
    EXPECT_EQ(x[11], 1.0f);
  });
}

TEST(AllReduce, AValueThatCannotBeEncodedIsNamedOnAllRanks) {
  on_all_ranks(3, [](Group& group) {
    CodecOptions options;
    options.step = 1;
    const Codec codec("step", options);
    std::vector<float> x(999, 1.0f);
    if (group.rank() == 2) x[5] = x[6] = 1e6f;
    const Outcome outcome = all_reduce(group, sum_of(999, codec.block()), {x.data(), &codec, 0, 0, 0, 0});
    EXPECT_EQ(outcome.kind, Outcome::kFailed);
    EXPECT_EQ(outcome.rank, 2);
    EXPECT_EQ(outcome.index, 5u);
    EXPECT_EQ(x[7], 1.0f);
  });
}

TEST(AllReduce, CallsThatDifferAreAnErrorOnAllRanks) {
  on_all_ranks(2, [](Group& group) {
    std::vector<float> x(100);
    const ReduceCall call = sum_of(99 + static_cast<std::size_t>(group.rank()));
    EXPECT_THROW(all_reduce_raw(group, call, x.data()), PeerError);
  });
}

TEST(AllReduce, ShardsCoverEverything) {
  for (const std::size_t n : {0u, 1u, 127u, 128u, 129u, 1000u})
    for (int size = 1; size < 6; ++size) {
      std::size_t end = 0;
      for (int rank = 0; rank < size; ++rank) {
        EXPECT_EQ(shard(n, size, rank, 128).begin, end);
        end = shard(n, size, rank, 128).end;
      }
      EXPECT_EQ(end, n);
    }
}

}  // namespace
}  // namespace scrimp
