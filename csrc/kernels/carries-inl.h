#pragma once
// Copies and sums of two arrays that keep what they overwrite, in one pass over memory. Written in registers: a compiler makes
// one memcpy out of a copy, and cannot store past the caches. Compiled once per ISA: no std template, unnamed namespace.
#include "kernels/sums-inl.h"
#include "kernels/wide-inl.h"

namespace scrimp {
namespace {

template <>
struct NativeOf<std::uint32_t> {
  typedef std::uint32_t Type __attribute__((vector_size(kNativeBytes)));
};
template <>
struct NativeOf<std::uint64_t> {
  typedef std::uint64_t Type __attribute__((vector_size(kNativeBytes)));
};

enum class Keep { kNothing, kCached, kStreamed };

template <Keep keep, class T>
inline void keep_native(T* kept, Native<T> value) {
  if constexpr (keep == Keep::kCached) memcpy(kept, &value, sizeof value);
  if constexpr (keep == Keep::kStreamed) stream_native(kept, value);
}

// How many of n values lie before the first that may be streamed to `kept`.
template <Keep keep, class T>
inline std::size_t values_before_line(const T* kept, std::size_t n) {
  if constexpr (keep != Keep::kStreamed) return 0;
  const std::size_t past = reinterpret_cast<std::uintptr_t>(kept) % kNativeBytes;
  const std::size_t head = past ? (kNativeBytes - past) / sizeof(T) : 0;
  return head < n ? head : n;
}

template <Keep keep>
inline void end_keeping() {
  if constexpr (keep == Keep::kStreamed) end_streaming();
}

// Arrays of words: what they stand for does not matter.
template <Keep keep>
void copy_keeping(const std::uint32_t* x, std::size_t n, std::uint32_t* to, std::uint32_t* kept) {
  constexpr std::size_t kLanes = kNativeBytes / sizeof *x;
  if (!n) return;  // arrays of nothing may be nowhere, which memcpy forbids
  std::size_t i = values_before_line<keep>(kept, n);
  memcpy(to, x, i * sizeof *x);
  if constexpr (keep == Keep::kStreamed) memcpy(kept, x, i * sizeof *x);
  for (; i + 2 * kLanes <= n; i += 2 * kLanes) {
    const Native<std::uint32_t> a = load_native(x + i), b = load_native(x + i + kLanes);
    keep_native<keep>(kept + i, a);
    keep_native<keep>(kept + i + kLanes, b);
    memcpy(to + i, &a, sizeof a);
    memcpy(to + i + kLanes, &b, sizeof b);
  }
  memcpy(to + i, x + i, (n - i) * sizeof *x);
  if constexpr (keep != Keep::kNothing) memcpy(kept + i, x + i, (n - i) * sizeof *x);
  end_keeping<keep>();
}

template <class T>
constexpr bool kHasFractions = static_cast<T>(0.5) != 0;

// Of single values or of registers of them.
template <class T, class V>
inline V scaled_sum(V a, V b, T factor) {
  if constexpr (kHasFractions<T>) return (a + b) * factor;
  return a + b;
}

// Ones in the lanes whose exponent is that of NaN and infinities.
inline auto nonfinite_lanes(Native<float> v) {
  constexpr std::uint32_t kExponent = 0x7f800000u;
  return ((Native<std::uint32_t>)v & kExponent) == kExponent;
}
inline auto nonfinite_lanes(Native<double> v) {
  constexpr std::uint64_t kExponent = 0x7ff0000000000000ull;
  return ((Native<std::uint64_t>)v & kExponent) == kExponent;
}

// What has been seen in registers; integers are finite.
template <class T, bool = kHasFractions<T>>
struct Finite {
  void see(Native<T>) {}
  bool all() const { return true; }
};
template <class T>
struct Finite<T, true> {
  using Lanes = decltype(nonfinite_lanes(Native<T>{}));
  void see(Native<T> v) { lanes |= nonfinite_lanes(v); }
  bool all() const {
    std::uint64_t words[kNativeBytes / 8], any = 0;
    const Lanes seen = lanes;
    memcpy(words, &seen, sizeof words);
    for (const std::uint64_t word : words) any |= word;
    return !any;
  }
  Lanes lanes = {};
};

// The values at the ends, for which no register is full. Cold: vectorised they would be most of the code.
template <class T>
__attribute__((noinline, cold)) bool sum_few(T* x, T* other, bool other_first, bool back, std::size_t n, T factor, T* kept) {
  bool finite = true;
  for (std::size_t i = 0; i < n; ++i) {
    const T mine = x[i], theirs = other[i], total = other_first ? scaled_sum(theirs, mine, factor) : scaled_sum(mine, theirs, factor);
    if (kept) kept[i] = mine;
    x[i] = total;
    if (back) other[i] = total;
    if constexpr (kHasFractions<T>) finite &= !is_nonfinite(total);
  }
  return finite;
}

template <Keep keep, bool kOtherFirst, bool kBack, class T>
bool sum_keeping(T* x, T* other, std::size_t n, T factor, T* kept) {
  constexpr std::size_t kLanes = kNativeBytes / sizeof(T);
  Finite<T> finite;
  const auto sum_lanes = [&](std::size_t i, Native<T> mine, Native<T> theirs) {
    const Native<T> total = kOtherFirst ? scaled_sum(theirs, mine, factor) : scaled_sum(mine, theirs, factor);
    keep_native<keep>(kept + i, mine);
    memcpy(x + i, &total, sizeof total);
    if constexpr (kBack) memcpy(other + i, &total, sizeof total);
    finite.see(total);
  };
  const auto sum_rest = [&](std::size_t i, std::size_t count) {
    return !count || sum_few(x + i, other + i, kOtherFirst, kBack, count, factor, keep == Keep::kNothing ? nullptr : kept + i);
  };
  std::size_t i = values_before_line<keep>(kept, n);
  const bool first = sum_rest(0, i);
  for (; i + 2 * kLanes <= n; i += 2 * kLanes) {
    const Native<T> mine = load_native(x + i), mine2 = load_native(x + i + kLanes);
    const Native<T> theirs = load_native(other + i), theirs2 = load_native(other + i + kLanes);
    sum_lanes(i, mine, theirs);
    sum_lanes(i + kLanes, mine2, theirs2);
  }
  const bool last = sum_rest(i, n - i);
  end_keeping<keep>();
  return first && last && finite.all();
}

inline void copy_words(const std::uint32_t* x, std::size_t n, std::uint32_t* to, std::uint32_t* kept, bool stream) {
  if (!kept) return copy_keeping<Keep::kNothing>(x, n, to, kept);
  if (stream) return copy_keeping<Keep::kStreamed>(x, n, to, kept);
  copy_keeping<Keep::kCached>(x, n, to, kept);
}

template <bool kOtherFirst, bool kBack, class T>
bool sum_both_as(T* x, T* other, std::size_t n, T factor, T* kept, bool stream) {
  if (!kept) return sum_keeping<Keep::kNothing, kOtherFirst, kBack>(x, other, n, factor, kept);
  if (stream) return sum_keeping<Keep::kStreamed, kOtherFirst, kBack>(x, other, n, factor, kept);
  return sum_keeping<Keep::kCached, kOtherFirst, kBack>(x, other, n, factor, kept);
}

template <class T>
bool sum_both(T* x, T* other, bool other_first, bool back, std::size_t n, T factor, T* kept, bool stream) {
  const auto as = other_first ? (back ? sum_both_as<true, true, T> : sum_both_as<true, false, T>)
                              : (back ? sum_both_as<false, true, T> : sum_both_as<false, false, T>);
  return as(x, other, n, factor, kept, stream);
}

}  // namespace
}  // namespace scrimp
