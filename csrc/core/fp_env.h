#pragma once
// The floating-point control word, set to IEEE defaults while a kernel runs and restored after: a host program may
// have flush-to-zero on, and then denormal blocks would quantize to other bytes (docs/formats.md).
#include <cstdint>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace scrimp {

class FpEnv {
 public:
#if defined(__x86_64__)
  FpEnv() : saved_(_mm_getcsr()) { _mm_setcsr(kDefault); }
  ~FpEnv() { _mm_setcsr(static_cast<unsigned>(saved_)); }
#elif defined(__aarch64__)
  FpEnv() {
    asm volatile("mrs %0, fpcr" : "=r"(saved_));
    asm volatile("msr fpcr, %0" ::"r"(std::uint64_t{0}));
  }
  ~FpEnv() { asm volatile("msr fpcr, %0" ::"r"(saved_)); }
#endif
  FpEnv(const FpEnv&) = delete;
  FpEnv& operator=(const FpEnv&) = delete;

 private:
  static constexpr unsigned kDefault = 0x1f80;  // all exceptions masked, round to nearest even, no FTZ, no DAZ
  std::uint64_t saved_ = 0;
};

}  // namespace scrimp
