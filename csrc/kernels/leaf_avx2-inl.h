#pragma once
// The leaves of leaf-inl.h in AVX2. Each function equals its namesake in `plain` bit for bit; what is not here is as in
// leaf_x86-inl.h. Included by leaf-inl.h alone.
#include "kernels/leaf_x86-inl.h"

namespace scrimp {
namespace {
namespace avx2 {

using namespace x86;

inline __m256i load_bytes(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }
inline void store_bytes(void* p, __m256i bytes) { _mm256_storeu_si256(static_cast<__m256i*>(p), bytes); }
inline __m128i load_16(const void* p) { return _mm_loadu_si128(static_cast<const __m128i*>(p)); }
inline __m256i twice_16(const void* p) { return _mm256_broadcastsi128_si256(load_16(p)); }

// Fours of bytes that lie by turns in the two halves, in order; and the way back.
inline __m256i in_order(__m256i fours) { return _mm256_permutevar8x32_epi32(fours, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7)); }
inline __m256i by_turns(__m256i bytes) { return _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 2, 4, 6, 1, 3, 5, 7)); }

// 32 integers as bytes; those beyond -128…127 become the nearest of these.
inline __m256i by_turns_as_bytes(__m256i a, __m256i b, __m256i c, __m256i d) {
  return _mm256_packs_epi16(_mm256_packs_epi32(a, b), _mm256_packs_epi32(c, d));
}
inline __m256i as_bytes(__m256i a, __m256i b, __m256i c, __m256i d) { return in_order(by_turns_as_bytes(a, b, c, d)); }

inline __m256 product(const float* x, __m256 by) { return _mm256_mul_ps(_mm256_loadu_ps(x), by); }
inline __m256i scaled(const float* x, __m256 by) { return _mm256_cvtps_epi32(product(x, by)); }

inline void codes32(const float* x, float inverse, std::int8_t* codes) {
  const __m256 by = _mm256_set1_ps(inverse);
  store_bytes(codes, as_bytes(scaled(x, by), scaled(x + 8, by), scaled(x + 16, by), scaled(x + 24, by)));
}

inline __m256i within(__m256i codes, float top) {
  const char most = static_cast<char>(static_cast<int>(top));
  return _mm256_max_epi8(_mm256_min_epi8(codes, _mm256_set1_epi8(most)), _mm256_set1_epi8(static_cast<char>(-most)));
}

// top is a whole number up to 127, and the products are integers of 32 bits: so the codes can be clamped instead of them.
inline void codes32_clamped(const float* x, float inverse, float top, std::int8_t* codes) {
  const __m256 by = _mm256_set1_ps(inverse);
  store_bytes(codes, within(as_bytes(scaled(x, by), scaled(x + 8, by), scaled(x + 16, by), scaled(x + 24, by)), top));
}

inline __m256i rounded_away(const float* x, __m256 by) {
  const __m256 scaled = product(x, by);
  const __m256 sign = _mm256_and_ps(scaled, _mm256_set1_ps(-0.0f));
  return _mm256_cvttps_epi32(_mm256_add_ps(scaled, _mm256_or_ps(sign, _mm256_set1_ps(bits_float(0x3effffffu)))));
}

inline void codes32_away(const float* x, float inverse, std::int8_t* codes) {
  const __m256 by = _mm256_set1_ps(inverse);
  store_bytes(codes, as_bytes(rounded_away(x, by), rounded_away(x + 8, by), rounded_away(x + 16, by), rounded_away(x + 24, by)));
}

struct Draws {
  __m256i lane[2], upper_key;

  Draws(std::uint64_t key, std::uint32_t start) : upper_key(_mm256_set1_epi32(static_cast<int>(key >> 32))) {
    const __m256i low = _mm256_xor_si256(_mm256_set1_epi32(static_cast<int>(start & 15)), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
    const __m256i factor = _mm256_set1_epi32(static_cast<int>(kFirstFactor));
    lane[0] = _mm256_mullo_epi32(low, factor);
    lane[1] = _mm256_mullo_epi32(_mm256_xor_si256(low, _mm256_set1_epi32(8)), factor);
  }
  // Of the 8 counters of one half, but the last xor.
  __m256i operator()(std::uint32_t product, int half) const {
    __m256i h = _mm256_add_epi32(_mm256_set1_epi32(static_cast<int>(product)), lane[half]);
    h = _mm256_add_epi32(_mm256_xor_si256(h, _mm256_srli_epi32(h, 13)), upper_key);
    return _mm256_mullo_epi32(h, _mm256_set1_epi32(static_cast<int>(kLastFactor)));
  }
};

// Of 8 values and the 8 sixteen places on, both with their random bits added: the upper halves.
inline __m256i stochastic16(const float* x, __m256 by, __m256i h) {
  const __m256i high = _mm256_srli_epi32(h, 16);
  const __m256i low = _mm256_blend_epi16(_mm256_xor_si256(h, high), _mm256_setzero_si256(), 0xaa);
  const __m256i a = _mm256_add_epi32(scaled(x, by), low), b = _mm256_add_epi32(scaled(x + 16, by), high);
  return _mm256_packs_epi32(_mm256_srai_epi32(a, 16), _mm256_srai_epi32(b, 16));
}

// top is 65536 times a whole number up to 127, and the products lie within ±2³⁰: see codes32_clamped.
template <bool kClamp>
inline void codes32_stochastic(const float* x, float inverse, float top, const Draws& draws, std::uint32_t product,
                               std::int8_t* codes) {
  const __m256 by = _mm256_set1_ps(inverse);
  const __m256i a = stochastic16(x, by, draws(product, 0)), b = stochastic16(x + 8, by, draws(product, 1));
  const __m256i order = _mm256_setr_epi32(0, 4, 2, 6, 1, 5, 3, 7);
  const __m256i bytes = _mm256_permutevar8x32_epi32(_mm256_packs_epi16(a, b), order);
  store_bytes(codes, kClamp ? within(bytes, top * 0x1p-16f) : bytes);
}

inline std::uint32_t first_of_magnitude32(const float* x, std::uint32_t bits) {
  const __m256i wanted = _mm256_set1_epi32(static_cast<int>(bits)), all = _mm256_set1_epi32(0x7fffffff);
  const auto found = [&](int i) { return _mm256_cmpeq_epi32(_mm256_and_si256(load_bytes(x + i), all), wanted); };
  const auto places = static_cast<std::uint32_t>(_mm256_movemask_epi8(as_bytes(found(0), found(8), found(16), found(24))));
  return static_cast<std::uint32_t>(__builtin_ctz(places | 0x80000000u));
}

inline __m256i from_eight(const float* x, __m256 by) {
  return _mm256_cvttps_epi32(_mm256_add_ps(product(x, by), _mm256_set1_ps(8.5f)));
}

inline void pairs32_from_eight(const float* x, float inverse, std::uint8_t* pair) {
  const __m256 by = _mm256_set1_ps(inverse);
  const __m256i sixteen = as_bytes(from_eight(x, by), from_eight(x + 8, by), from_eight(x + 16, by), from_eight(x + 24, by));
  const __m256i codes = _mm256_min_epi8(sixteen, _mm256_set1_epi8(15));
  const __m128i high = _mm_slli_epi16(_mm256_extracti128_si256(codes, 1), 4);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(pair), _mm_or_si128(_mm256_castsi256_si128(codes), high));
}

// The limits between levels by sixteenths: of the values whose 16-fold rounds to the same integer, at most one limit parts
// some from others. Entry k is that of the integer k, or k - 32: this limit, byte by byte, and how many lie below.
template <class Levels>
struct Sixteenths {
  alignas(32) std::uint8_t plane[4][32], below[32];

  constexpr Sixteenths() : plane{}, below{} {
    for (int k = -16; k < 16; ++k) {
      std::uint32_t bits = kInfBits;
      for (int i = 0; i < 15; ++i) {
        const float at = Levels::kLimits.value[i] * 16 - static_cast<float>(k);
        if (at < -0.5f) ++below[k & 31];
        if (at >= -0.5f && at < 0.5f) bits = __builtin_bit_cast(std::uint32_t, Levels::kLimits.value[i]);
      }
      for (int b = 0; b < 4; ++b) plane[b][k & 31] = static_cast<std::uint8_t>(bits >> (8 * b));
    }
  }
};
template <class Levels>
constexpr Sixteenths<Levels> kSixteenths;

// The values lie within -1…1.
template <class Levels>
inline void levels32(const float* x, float inverse, std::uint8_t* codes) {
  constexpr const Sixteenths<Levels>& table = kSixteenths<Levels>;
  const __m256 by = _mm256_set1_ps(inverse), sixteen = _mm256_set1_ps(16.0f);
  const __m256 value[4] = {product(x, by), product(x + 8, by), product(x + 16, by), product(x + 24, by)};
  const auto part = [&](int i) { return _mm256_cvtps_epi32(_mm256_mul_ps(value[i], sixteen)); };
  const __m256i parts = by_turns_as_bytes(part(0), part(1), part(2), part(3));
  const __m256i positive = _mm256_min_epi8(parts, _mm256_set1_epi8(15));
  const __m256i negative = _mm256_xor_si256(positive, _mm256_set1_epi8(static_cast<char>(0x80)));  // bit 7 on: a zero comes
  const auto entry = [&](const std::uint8_t* bytes) {
    const __m256i of_positive = _mm256_shuffle_epi8(twice_16(bytes), positive);
    return _mm256_or_si256(of_positive, _mm256_shuffle_epi8(twice_16(bytes + 16), negative));
  };
  const __m256i plane[4] = {entry(table.plane[0]), entry(table.plane[1]), entry(table.plane[2]), entry(table.plane[3])};
  const __m256i a = _mm256_unpacklo_epi8(plane[0], plane[1]), b = _mm256_unpacklo_epi8(plane[2], plane[3]);
  const __m256i c = _mm256_unpackhi_epi8(plane[0], plane[1]), d = _mm256_unpackhi_epi8(plane[2], plane[3]);
  const auto above = [&](int i, __m256i limit) {
    return _mm256_castps_si256(_mm256_cmp_ps(value[i], _mm256_castsi256_ps(limit), _CMP_GT_OQ));
  };
  const __m256i more = by_turns_as_bytes(above(0, _mm256_unpacklo_epi16(a, b)), above(1, _mm256_unpackhi_epi16(a, b)),
                                         above(2, _mm256_unpacklo_epi16(c, d)), above(3, _mm256_unpackhi_epi16(c, d)));
  store_bytes(codes, in_order(_mm256_sub_epi8(entry(table.below), more)));
}

inline void join_neighbours32(const std::uint8_t* codes, std::uint8_t* pair) {
  const __m256i both = _mm256_maddubs_epi16(load_bytes(codes), _mm256_set1_epi16(0x0110));
  const __m256i bytes = _mm256_permute4x64_epi64(_mm256_packus_epi16(both, both), 0x08);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(pair), _mm256_castsi256_si128(bytes));
}

inline void join_halves32(const std::uint8_t* codes, std::uint8_t* pair) {
  const __m128i both = _mm_or_si128(load_16(codes), _mm_slli_epi16(load_16(codes + 16), 4));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(pair), both);
}

inline void join_nibbles32(const std::int8_t* low, const std::int8_t* high, std::uint8_t* pair) {
  const __m256i nibble = _mm256_set1_epi8(15);
  const __m256i a = _mm256_and_si256(load_bytes(low), nibble), b = _mm256_and_si256(load_bytes(high), nibble);
  store_bytes(pair, _mm256_xor_si256(_mm256_or_si256(a, _mm256_slli_epi16(b, 4)), _mm256_set1_epi8(static_cast<char>(0x88))));
}

inline __m256 magnitude(const float* x) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), _mm256_loadu_ps(x)); }

struct Max {
  static __m256 of(__m256 a, __m256 b) {
    return _mm256_castsi256_ps(_mm256_max_epu32(_mm256_castps_si256(a), _mm256_castps_si256(b)));
  }
};

struct Sum {
  static __m256 of(__m256 a, __m256 b) { return _mm256_add_ps(a, b); }
};

// A tree of shuffles finishes eight reductions together, in the order of lane_sum: element j meets j + 4, then j + 2, j + 1.
template <class Op>
inline __m256 fold_vectors(const __m256* v) {
  __m256 two[4], four[2];
  for (int k = 0; k < 4; ++k)
    two[k] = Op::of(_mm256_permute2f128_ps(v[2 * k], v[2 * k + 1], 0x20), _mm256_permute2f128_ps(v[2 * k], v[2 * k + 1], 0x31));
  for (int k = 0; k < 2; ++k) {
    const __m256d p = _mm256_castps_pd(two[2 * k]), q = _mm256_castps_pd(two[2 * k + 1]);
    four[k] = Op::of(_mm256_castpd_ps(_mm256_unpacklo_pd(p, q)), _mm256_castpd_ps(_mm256_unpackhi_pd(p, q)));
  }
  const __m256 folded = Op::of(_mm256_shuffle_ps(four[0], four[1], 0x88), _mm256_shuffle_ps(four[0], four[1], 0xdd));
  return _mm256_permutevar8x32_ps(folded, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
}

template <class Op, std::uint32_t kBlock>
inline void fold_blocks(const float* x, void* out) {
  for (std::uint32_t b = 0; b < kGroup; b += 8) {
    __m256 folded[8];
#pragma GCC unroll 8
    for (int k = 0; k < 8; ++k) {
      const float* at = x + (b + k) * kBlock;
      __m256 low = magnitude(at), high = magnitude(at + 8);
#pragma GCC unroll 16
      for (std::uint32_t i = 16; i < kBlock; i += 16) {
        low = Op::of(low, magnitude(at + i));
        high = Op::of(high, magnitude(at + i + 8));
      }
      folded[k] = Op::of(low, high);
    }
    _mm256_storeu_ps(static_cast<float*>(out) + b, fold_vectors<Op>(folded));
  }
}

template <std::uint32_t kBlock>
inline void absmax_of_blocks(const float* x, std::uint32_t* top) {
  fold_blocks<Max, kBlock>(x, top);
}

template <std::uint32_t kBlock>
inline void abs_sum_of_blocks(const float* x, float* sum) {
  fold_blocks<Sum, kBlock>(x, sum);
}

// Of two scales at once. An error's sign does not matter, so neither does that of a value.
template <std::uint32_t kBlock>
inline void squared_errors16(const float* x, const float* scale, float unit, std::int32_t levels, float* error) {
  const __m256 by_unit = _mm256_set1_ps(unit), top = _mm256_set1_ps(static_cast<float>(levels)), one = _mm256_set1_ps(1.0f);
  alignas(32) float inverse[16], size[kBlock];
  for (int c = 0; c < 16; c += 8) _mm256_store_ps(inverse + c, _mm256_div_ps(one, _mm256_loadu_ps(scale + c)));
  for (std::uint32_t i = 0; i < kBlock; i += 8) _mm256_store_ps(size + i, magnitude(x + i));
  const auto squared = [&](__m256 value, __m256 by, __m256 back) {
    const __m256 rounded = _mm256_round_ps(_mm256_mul_ps(value, by), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    const __m256 code = _mm256_min_ps(rounded, top);
    const __m256 off = _mm256_mul_ps(_mm256_sub_ps(value, _mm256_mul_ps(code, back)), by_unit);
    return _mm256_mul_ps(off, off);
  };
  __m256 sum[16];
  for (int c = 0; c < 16; c += 2) {
    const __m256 by[2] = {_mm256_set1_ps(inverse[c]), _mm256_set1_ps(inverse[c + 1])};
    const __m256 back[2] = {_mm256_set1_ps(scale[c]), _mm256_set1_ps(scale[c + 1])};
    __m256 low[2] = {}, high[2] = {};
    for (std::uint32_t i = 0; i < kBlock; i += 16)
      for (int k = 0; k < 2; ++k) {
        low[k] = _mm256_add_ps(low[k], squared(_mm256_load_ps(size + i), by[k], back[k]));
        high[k] = _mm256_add_ps(high[k], squared(_mm256_load_ps(size + i + 8), by[k], back[k]));
      }
    for (int k = 0; k < 2; ++k) sum[c + k] = _mm256_add_ps(low[k], high[k]);
  }
  for (int c = 0; c < 16; c += 8) _mm256_storeu_ps(error + c, fold_vectors<Sum>(sum + c));
}

inline bool scale_blocks(const std::uint32_t* top, float levels, float unit, float least, float most, float* scale,
                         float* inverse) {
  __m256 good = _mm256_castsi256_ps(_mm256_set1_epi32(-1));
  for (std::uint32_t b = 0; b < kGroup; b += 8) {
    const __m256 absmax = _mm256_castsi256_ps(load_bytes(top + b));
    const __m256 each = _mm256_div_ps(absmax, _mm256_set1_ps(levels));
    const __m256 zero = _mm256_cmp_ps(absmax, _mm256_setzero_ps(), _CMP_EQ_OQ);
    const __m256 divisor = _mm256_blendv_ps(each, _mm256_set1_ps(bits_float(kInfBits)), zero);
    _mm256_storeu_ps(scale + b, each);
    _mm256_storeu_ps(inverse + b, _mm256_mul_ps(_mm256_div_ps(_mm256_set1_ps(1.0f), divisor), _mm256_set1_ps(unit)));
    const __m256 above = _mm256_cmp_ps(absmax, _mm256_set1_ps(least), _CMP_GE_OQ);
    const __m256 inside = _mm256_and_ps(above, _mm256_cmp_ps(absmax, _mm256_set1_ps(most), _CMP_LE_OQ));
    good = _mm256_and_ps(good, _mm256_or_ps(zero, inside));
  }
  return _mm256_movemask_ps(good) == 0xff;
}

inline void negative_bits32(const float* x, std::uint8_t* bits) {
  for (int k = 0; k < 4; ++k) {
    const __m256 negative = _mm256_cmp_ps(_mm256_loadu_ps(x + 8 * k), _mm256_setzero_ps(), _CMP_LT_OQ);
    bits[k] = static_cast<std::uint8_t>(_mm256_movemask_ps(negative));
  }
}

inline void scaled_codes32(const std::int8_t* codes, float scale, float* y) {
  const __m256 by = _mm256_set1_ps(scale);
  for (int i = 0; i < 32; i += 8) {
    const __m256i wide = _mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(codes + i)));
    _mm256_storeu_ps(y + i, _mm256_mul_ps(_mm256_cvtepi32_ps(wide), by));
  }
}

inline void add32(const float* x, float* y) {
  for (int i = 0; i < 32; i += 8) _mm256_storeu_ps(y + i, _mm256_add_ps(_mm256_loadu_ps(y + i), _mm256_loadu_ps(x + i)));
}

// The entries of a table that 32 nibbles, in bytes, name, times scale. Plane k of the table has byte k of every entry;
// where the entries are integers or so, the lower two are zero.
template <class Levels>
inline void scaled_entries32(__m256i nibbles, float scale, float* y) {
  const __m256i fours = by_turns(nibbles), none = _mm256_setzero_si256();
  const auto bytes = [&](int k) { return _mm256_shuffle_epi8(twice_16(Levels::kTable.plane[k]), fours); };
  const __m256i third = bytes(2), last = bytes(3);
  __m256i low = none, high = none;
  if constexpr (!Levels::kTable.short_floats) {
    const __m256i first = bytes(0), second = bytes(1);
    low = _mm256_unpacklo_epi8(first, second), high = _mm256_unpackhi_epi8(first, second);
  }
  const __m256i low_upper = _mm256_unpacklo_epi8(third, last), high_upper = _mm256_unpackhi_epi8(third, last);
  const __m256 by = _mm256_set1_ps(scale);
  const auto put = [&](int i, __m256i entry) { _mm256_storeu_ps(y + i, _mm256_mul_ps(_mm256_castsi256_ps(entry), by)); };
  put(0, _mm256_unpacklo_epi16(low, low_upper));
  put(8, _mm256_unpackhi_epi16(low, low_upper));
  put(16, _mm256_unpacklo_epi16(high, high_upper));
  put(24, _mm256_unpackhi_epi16(high, high_upper));
}

inline __m256i low_nibbles(__m256i pairs) { return _mm256_and_si256(pairs, _mm256_set1_epi8(15)); }

template <class Levels, std::uint32_t kPairs>
inline void scaled_nibbles(const std::uint8_t* pair, float scale, float* y) {
  if constexpr (kPairs == 16) {
    const __m128i pairs = load_16(pair);
    scaled_entries32<Levels>(low_nibbles(_mm256_setr_m128i(pairs, _mm_srli_epi16(pairs, 4))), scale, y);
  } else {
    for (std::uint32_t i = 0; i < kPairs; i += 32) {
      const __m256i pairs = load_bytes(pair + i);
      scaled_entries32<Levels>(low_nibbles(pairs), scale, y + i);
      scaled_entries32<Levels>(low_nibbles(_mm256_srli_epi16(pairs, 4)), scale, y + i + kPairs);
    }
  }
}

template <class Levels, std::uint32_t kPairs>
inline void scaled_neighbours(const std::uint8_t* pair, float scale, float* y) {
  for (std::uint32_t i = 0; i < kPairs; i += 16) {
    const __m128i second = load_16(pair + i), first = _mm_srli_epi16(second, 4);
    const __m256i both = _mm256_setr_m128i(_mm_unpacklo_epi8(first, second), _mm_unpackhi_epi8(first, second));
    scaled_entries32<Levels>(low_nibbles(both), scale, y + 2 * i);
  }
}

}  // namespace avx2
}  // namespace
}  // namespace scrimp
