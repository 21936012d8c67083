#pragma once
// The leaves of leaf-inl.h that need an intrinsic below AVX-512 (SSE2 and AVX); the rest is plain. Included by it alone.
#include <immintrin.h>

namespace scrimp {
namespace {
namespace x86 {

using namespace plain;

inline void stream_lines(const std::uint8_t* from, std::size_t n_lines, std::uint8_t* to) {
  for (std::size_t i = 0; i < 4 * n_lines; ++i)
    _mm_stream_si128(reinterpret_cast<__m128i*>(to) + i, _mm_loadu_si128(reinterpret_cast<const __m128i*>(from) + i));
}
inline void stream_end() { _mm_sfence(); }

}  // namespace x86
}  // namespace
}  // namespace scrimp
