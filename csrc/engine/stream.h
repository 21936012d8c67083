#pragma once
// Copies that bypass the caches when the whole array could not stay in them: a plain store would first read the line
// that it overwrites.
#include <cstddef>
#include <cstdint>
#include <cstring>
#if defined(__x86_64__)
#include <emmintrin.h>
#endif

#include "kernels/table.h"

namespace scrimp {

constexpr std::size_t kStreamNbytes = std::size_t{8} << 20;  // arrays of at least this are streamed

inline void stream_copy(void* to, const void* from, std::size_t nbytes) {
#if defined(__x86_64__)
  auto* out = static_cast<std::byte*>(to);
  auto* in = static_cast<const std::byte*>(from);
  const std::size_t head = (16 - reinterpret_cast<std::uintptr_t>(out) % 16) % 16;
  if (nbytes < head + 64) {
    std::memcpy(out, in, nbytes);
    return;
  }
  std::memcpy(out, in, head);
  std::size_t i = head;
  for (; i + 64 <= nbytes; i += 64)
    for (std::size_t j = 0; j < 64; j += 16)
      _mm_stream_si128(reinterpret_cast<__m128i*>(out + i + j), _mm_loadu_si128(reinterpret_cast<const __m128i*>(in + i + j)));
  std::memcpy(out + i, in + i, nbytes - i);
  _mm_sfence();  // others may look after the next barrier
#else
  std::memcpy(to, from, nbytes);
#endif
}

// Copies a part of an array that has `whole_nbytes` bytes in all. Through registers: between two cores that took a third to a
// half of memcpy's time.
inline void copy_out(void* to, const void* from, std::size_t nbytes, std::size_t whole_nbytes) {
  if (whole_nbytes >= kStreamNbytes) return stream_copy(to, from, nbytes);
  const std::size_t n_words = nbytes / 4, rest = nbytes % 4;
  const auto *x = static_cast<const std::uint32_t*>(from);
  active_table().sums->copy_words(x, n_words, static_cast<std::uint32_t*>(to), nullptr, false);
  if (rest) std::memcpy(static_cast<std::byte*>(to) + 4 * n_words, static_cast<const std::byte*>(from) + 4 * n_words, rest);
}

}  // namespace scrimp
