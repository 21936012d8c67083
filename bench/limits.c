/* What the memory can do: read, write, copy, and convert to int8 with a constant scale. Built by contestants/limits.py with
 * -O3 -march=native. The threads of one measurement start together at every repetition (a spinning barrier), so that short
 * ones are not a measurement of thread starts. */
#define _GNU_SOURCE
#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>
#if defined(__AVX2__)
#include <immintrin.h>
#endif

enum { READ, MEMSET, COPY, CONVERT };

static _Atomic uint32_t sink;

#if defined(__AVX512F__)
#define WIDTH 64 /* of a register: wider ones are split through memory */
#elif defined(__AVX2__)
#define WIDTH 32
#else
#define WIDTH 16
#endif
enum { LANES = WIDTH / 4, SUMS = 4 };
typedef uint32_t lanes __attribute__((vector_size(WIDTH), aligned(4), may_alias));

static void read_all(const float* x, size_t n) {
  lanes sum[SUMS] = {{0}};
  for (size_t i = 0; i + SUMS * LANES <= n; i += SUMS * LANES) {
    for (int line = 0; line < SUMS * WIDTH / 64; ++line) __builtin_prefetch(x + i + 1024 + 16 * line);
#pragma GCC unroll 4
    for (int k = 0; k < SUMS; ++k) sum[k] += *(const lanes*)(x + i + LANES * k);
  }
  const lanes all = sum[0] + sum[1] + sum[2] + sum[3];
  for (int j = 0; j < LANES; ++j) atomic_fetch_add(&sink, all[j]);
}

/* No scale to find, nothing to pack around: the least that an int8 codec has to do. Streams above 4 MB. */
static void convert(const float* x, int8_t* q, size_t n) {
#if defined(__AVX512F__)
  const __m512 scale = _mm512_set1_ps(31.7f);
  const int stream = n >= 1u << 20;
  for (size_t i = 0; i + 64 <= n; i += 64) {
    __m512i code = _mm512_setzero_si512();
#define QUARTER(k)                                                                                                        \
  code = _mm512_inserti32x4(                                                                                              \
      code, _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(x + i + 16 * k), scale))), k);            \
  __builtin_prefetch(x + i + 2048 + 16 * k)
    QUARTER(0);
    QUARTER(1);
    QUARTER(2);
    QUARTER(3);
#undef QUARTER
    if (stream)
      _mm512_stream_si512((__m512i*)(q + i), code);
    else
      _mm512_storeu_si512(q + i, code);
  }
  _mm_sfence();
#elif defined(__AVX2__)
  const __m256 scale = _mm256_set1_ps(31.7f);
  const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
  const int stream = n >= 1u << 20;
  for (size_t i = 0; i + 32 <= n; i += 32) {
    __m256i part[4];
#pragma GCC unroll 4
    for (int k = 0; k < 4; ++k) part[k] = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x + i + 8 * k), scale));
    __builtin_prefetch(x + i + 2048);
    __builtin_prefetch(x + i + 2064);
    const __m256i words = _mm256_packs_epi32(part[0], part[1]), others = _mm256_packs_epi32(part[2], part[3]);
    const __m256i code = _mm256_permutevar8x32_epi32(_mm256_packs_epi16(words, others), order);
    if (stream)
      _mm256_stream_si256((__m256i*)(q + i), code);
    else
      _mm256_storeu_si256((__m256i*)(q + i), code);
  }
  _mm_sfence();
#else
  for (size_t i = 0; i < n; ++i) q[i] = (int8_t)(int32_t)rintf(x[i] * 31.7f);
#endif
}

static void once(int kind, const float* x, float* y, size_t n) {
  switch (kind) {
    case READ: read_all(x, n); break;
    case MEMSET: memset(y, 1, n * sizeof(float)); break; /* not 0: some machines write zeros for free */
    case COPY: memcpy(y, x, n * sizeof(float)); break;
    case CONVERT: convert(x, (int8_t*)y, n); break;
  }
}

struct Share {
  int kind, threads, repeats;
  const float* x;
  float* y;
  size_t n;
  _Atomic int* arrived;
};

static void* repeat(void* argument) {
  const struct Share* share = argument;
  for (int r = 1; r <= share->repeats; ++r) {
    once(share->kind, share->x, share->y, share->n);
    atomic_fetch_add(share->arrived, 1);
    for (int spins = 0; atomic_load(share->arrived) < r * share->threads; ++spins)
      if (spins > 20000) sched_yield();
  }
  return NULL;
}

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + 1e-9 * t.tv_nsec;
}

/* Seconds of one repetition with `threads` (at most 64) threads over n values; y is 64-byte aligned. */
double seconds_of(int kind, const float* x, float* y, size_t n, int threads, int repeats) {
  _Atomic int arrived = 0;
  pthread_t thread[64];
  struct Share share[64];
  const size_t part = n / threads / 64 * 64;
  const double start = now();
  for (int t = threads - 1; t >= 0; --t) {
    const size_t begin = t * part, count = t == threads - 1 ? n - begin : part;
    float* out = kind == CONVERT ? (float*)((int8_t*)y + begin) : y + begin;
    share[t] = (struct Share){kind, threads, repeats, x + begin, out, count, &arrived};
    if (t) pthread_create(&thread[t], NULL, repeat, &share[t]);
  }
  repeat(&share[0]);
  for (int t = 1; t < threads; ++t) pthread_join(thread[t], NULL);
  return (now() - start) / repeats;
}
