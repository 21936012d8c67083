#pragma once
// The little of the CUDA runtime that csrc/cuda and its check use, with the CPU as the device. A thread block is real
// threads and a barrier, so that TSan reports a missing __syncthreads. For tests without a GPU only.
#include <atomic>
#include <barrier>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <vector>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __shared__ static

struct Dim3 {
  unsigned x = 1;
};
inline thread_local Dim3 threadIdx, blockIdx, blockDim;
inline thread_local std::barrier<>* thread_block_barrier = nullptr;
inline void __syncthreads() { thread_block_barrier->arrive_and_wait(); }

inline void atomicMin(unsigned long long* address, unsigned long long value) {
  std::atomic_ref<unsigned long long> target(*address);
  unsigned long long seen = target;
  while (value < seen && !target.compare_exchange_weak(seen, value)) {
  }
}

using cudaStream_t = void*;
enum cudaError_t { cudaSuccess };
enum cudaMemcpyKind { cudaMemcpyHostToDevice, cudaMemcpyDeviceToHost };
inline cudaError_t cudaGetLastError() { return cudaSuccess; }
inline const char* cudaGetErrorString(cudaError_t) { return "no error"; }
inline cudaError_t cudaFree(void* p) {
  std::free(p);
  return cudaSuccess;
}
inline cudaError_t cudaMalloc(void** p, std::size_t nbytes) {
  *p = std::malloc(nbytes);
  return cudaSuccess;
}
inline cudaError_t cudaMemcpy(void* to, const void* from, std::size_t nbytes, cudaMemcpyKind) {
  if (nbytes) std::memcpy(to, from, nbytes);
  return cudaSuccess;
}

// Runs body() as every thread of every block, one block after the other.
template <class Body>
void run_grid(unsigned n_blocks, unsigned n_threads, const Body& body) {
  std::barrier<> barrier(n_threads);
  std::vector<std::jthread> threads;
  for (unsigned t = 0; t < n_threads; ++t)
    threads.emplace_back([&, t] {
      thread_block_barrier = &barrier;
      blockDim.x = n_threads;
      threadIdx.x = t;
      for (unsigned b = 0; b < n_blocks; ++b) {
        blockIdx.x = b;
        body();
        barrier.arrive_and_wait();
      }
    });
}
#define SCRIMP_LAUNCH(kernel, blocks, threads, stream, ...) \
  run_grid(blocks, threads, [&, launched_on = (stream)] { (void)launched_on, kernel(__VA_ARGS__); })
#define SCRIMP_CUDA_THREADS 8
