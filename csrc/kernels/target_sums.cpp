// The kernels of one ISA for sums of plain numbers. Compiled once per ISA.
#include "kernels/isa_name.h"
#include "kernels/carries-inl.h"
#include "kernels/sums-inl.h"

namespace scrimp {

extern const SumKernels SCRIMP_OF_ISA(kSums);
const SumKernels SCRIMP_OF_ISA(kSums) = {
    {&all_finite_of<float>, &sum_of<float>, &divide_by<float>, &sum_last_of<float>},
    {&all_finite_of<double>, &sum_of<double>, &divide_by<double>, &sum_last_of<double>},
    &sum_of<std::int32_t>,
    &sum_of<std::int64_t>,
    &copy_words,
    &sum_both<float>,
    &sum_both<double>,
    &sum_both<std::uint32_t>,
    &sum_both<std::uint64_t>};

}  // namespace scrimp
