#pragma once
// SCRIMP_HD marks arithmetic of one value or one block that the CPU and the CUDA builds share.
#ifdef __CUDACC__
#define SCRIMP_HD __host__ __device__ __forceinline__
#else
#define SCRIMP_HD inline __attribute__((always_inline))
#endif
