// Chooses the kernel table of this process, once: the first supported row, or the one that SCRIMP_ISA names.
#include <cstdlib>
#include <cstring>
#include <string>

#include "core/check.h"
#include "kernels/table.h"
#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace scrimp {

#if defined(__x86_64__)
extern const KernelTable kTable_v2, kTable_v3, kTable_v4, kTable_v4vnni;
#else
extern const KernelTable kTable_neon;
#endif

namespace {

struct Row {
  const KernelTable* table;
  bool supported;
};

#if defined(__x86_64__)
constexpr unsigned bit(int k) { return 1u << k; }

// Read by cpuid and xgetbv: __builtin_cpu_supports answers 0 for AVX-512 VNNI under some compilers (zig c++ 0.15).
struct Cpu {
  bool v2 = false, v3 = false, v4 = false, v4vnni = false;

  Cpu() {
    unsigned a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d)) return;
    const unsigned need_v2 = bit(0) | bit(9) | bit(13) | bit(19) | bit(20) | bit(23);
    v2 = (c & need_v2) == need_v2;
    const unsigned need_v3 = bit(12) | bit(22) | bit(27) | bit(28) | bit(29);  // FMA MOVBE OSXSAVE AVX F16C
    if (!v2 || (c & need_v3) != need_v3) return;
    unsigned low, high;
    asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    const bool saves_ymm = (low & 0x6) == 0x6, saves_zmm = (low & 0xe6) == 0xe6;
    unsigned b7, c7, d7;
    if (!__get_cpuid_count(7, 0, &a, &b7, &c7, &d7)) return;
    const unsigned need_avx2 = bit(3) | bit(5) | bit(8);  // BMI1 AVX2 BMI2
    v3 = saves_ymm && (b7 & need_avx2) == need_avx2;
    const unsigned need_avx512 = bit(16) | bit(17) | bit(28) | bit(30) | bit(31);  // F DQ CD BW VL
    v4 = v3 && saves_zmm && (b7 & need_avx512) == need_avx512;
    const unsigned need_vnni = bit(1) | bit(6) | bit(11);  // VBMI VBMI2 VNNI
    v4vnni = v4 && (c7 & need_vnni) == need_vnni;
  }
};
#endif

const KernelTable& choose_table() {
#if defined(__x86_64__)
  const Cpu cpu;
  const Row rows[] = {{&kTable_v4vnni, cpu.v4vnni}, {&kTable_v4, cpu.v4}, {&kTable_v3, cpu.v3}, {&kTable_v2, cpu.v2}};
#else
  const Row rows[] = {{&kTable_neon, true}};
#endif
  const char* wanted = std::getenv("SCRIMP_ISA");
  std::string known;
  for (const Row& row : rows) {
    if (!wanted || !*wanted) {
      if (row.supported) return *row.table;
    } else if (!std::strcmp(wanted, row.table->isa)) {
      require(row.supported, "SCRIMP_ISA=", wanted, " is not supported by this CPU");
      return *row.table;
    }
    known += (known.empty() ? "" : ", ") + std::string(row.table->isa);
  }
  require(wanted && *wanted, "scrimp needs a CPU with at least x86-64-v2 (SSE4.2, POPCNT)");
  require(false, "SCRIMP_ISA='", wanted, "' is unknown; known: ", known);
  std::abort();
}

}  // namespace

const KernelTable& active_table() {
  static const KernelTable& table = choose_table();
  return table;
}

}  // namespace scrimp
