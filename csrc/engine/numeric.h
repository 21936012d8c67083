#pragma once
// Sums of plain numbers as the raw collectives need them: in the order of ranks, integers wrap, no NaN unnoticed.
#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

namespace scrimp {

template <class T>
bool all_finite(const T* x, std::size_t n) {
  if constexpr (std::is_floating_point_v<T>) {
    using Bits = std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint64_t>;
    constexpr Bits kExponent = sizeof(T) == 4 ? Bits{0x7f800000u} : static_cast<Bits>(0x7ff0000000000000ull);
    Bits bad = 0;
    for (std::size_t i = 0; i < n; ++i) {
      Bits bits;
      std::memcpy(&bits, x + i, sizeof bits);
      bad |= static_cast<Bits>((bits & kExponent) == kExponent);
    }
    return !bad;
  } else {
    return true;
  }
}

// total = a + b; total may be a.
template <class T>
void sum(const T* a, const T* b, std::size_t n, T* total) {
  if constexpr (std::is_integral_v<T>) {
    using U = std::make_unsigned_t<T>;
    for (std::size_t i = 0; i < n; ++i) total[i] = static_cast<T>(static_cast<U>(a[i]) + static_cast<U>(b[i]));
  } else {
    for (std::size_t i = 0; i < n; ++i) total[i] = a[i] + b[i];
  }
}

template <class T>
void add(T* total, const T* x, std::size_t n) {
  sum(total, x, n, total);
}

// total /= size. A power of two has an exact reciprocal, and the product is the same number.
template <class T>
void divide(T* total, std::size_t n, int size) {
  const T divisor = static_cast<T>(size), reciprocal = T{1} / divisor;
  if (std::has_single_bit(static_cast<unsigned>(size))) {
    for (std::size_t i = 0; i < n; ++i) total[i] *= reciprocal;
  } else {
    for (std::size_t i = 0; i < n; ++i) total[i] /= divisor;
  }
}

// total = a + b, and over `divisor`, in one pass; whether it is finite. `total` is `a` or apart from both.
template <class T>
bool sum_last(const T* a, const T* b, std::size_t n, int divisor, T* total) {
  if constexpr (std::is_integral_v<T>) {
    sum(a, b, n, total);
    return true;
  } else {
    if (!std::has_single_bit(static_cast<unsigned>(divisor))) {
      sum(a, b, n, total);
      divide(total, n, divisor);
      return all_finite(total, n);
    }
    using Bits = std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint64_t>;
    constexpr Bits kExponent = sizeof(T) == 4 ? Bits{0x7f800000u} : static_cast<Bits>(0x7ff0000000000000ull);
    const T reciprocal = T{1} / static_cast<T>(divisor);
    Bits bad = 0;
    for (std::size_t i = 0; i < n; ++i) {
      const T value = (a[i] + b[i]) * reciprocal;
      total[i] = value;
      bad |= static_cast<Bits>((std::bit_cast<Bits>(value) & kExponent) == kExponent);
    }
    return !bad;
  }
}

}  // namespace scrimp
