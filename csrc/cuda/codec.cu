// Generic kernels over codecs/list.h. A thread encodes or decodes one block in shared memory; the thread block moves
// values and payload between shared and device memory in coalesced words.
#include "cuda/codec.h"

#include <stdexcept>

#include "codecs/block.h"
#include "codecs/list.h"
#include "core/rng.h"

#ifndef SCRIMP_LAUNCH  // tests/cuda/on_cpu runs the same kernels on CPU threads
#define SCRIMP_LAUNCH(kernel, blocks, threads, stream, ...) kernel<<<blocks, threads, 0, stream>>>(__VA_ARGS__)
#define SCRIMP_CUDA_THREADS 256
#endif

namespace scrimp::cuda {
namespace {

struct Job {
  CodecOptions options;
  Nonfinite nonfinite;
  std::uint64_t key, index;
  unsigned long long* first_bad;
};

// Codec blocks per thread block: as many as a warp has threads, while values and payload fit into 46 KB of shared memory.
template <class C>
constexpr int kFit = 47104 / (4 * (C::kBlock + 1) + sizeof(typename C::Block));
template <class C>
constexpr int kTile = kFit<C> < 32 ? kFit<C> : 32;

__device__ void copy_bytes(const std::uint8_t* from, std::uint8_t* to, std::uint32_t nbytes) {
  const bool words = ((reinterpret_cast<std::uintptr_t>(from) | reinterpret_cast<std::uintptr_t>(to)) & 3) == 0;
  const std::uint32_t n_words = words ? nbytes / 4 : 0;
  for (std::uint32_t i = threadIdx.x; i < n_words; i += blockDim.x)
    reinterpret_cast<std::uint32_t*>(to)[i] = reinterpret_cast<const std::uint32_t*>(from)[i];
  for (std::uint32_t i = n_words * 4 + threadIdx.x; i < nbytes; i += blockDim.x) to[i] = from[i];
}

// Values of this thread block: their number, and how many blocks they fill.
template <class C>
struct Tile {
  std::size_t begin;
  std::uint32_t n_values, n_blocks, stride, nbytes;  // stride: bytes of a full block

  __device__ Tile(std::size_t n, const CodecOptions& options) : begin(static_cast<std::size_t>(blockIdx.x) * kTile<C> * C::kBlock) {
    const std::size_t left = n - begin;
    n_values = static_cast<std::uint32_t>(left < kTile<C> * C::kBlock ? left : kTile<C> * C::kBlock);
    n_blocks = (n_values + C::kBlock - 1) / C::kBlock;
    const std::uint32_t rest = n_values % C::kBlock;
    stride = C::nbytes(C::kBlock, options);
    nbytes = n_values / C::kBlock * stride + (rest ? C::nbytes(rest, options) : 0);
  }
  __device__ std::size_t offset() const { return static_cast<std::size_t>(blockIdx.x) * kTile<C> * stride; }
  __device__ std::uint32_t length(std::uint32_t block) const {
    const std::uint32_t left = n_values - block * C::kBlock;
    return left < C::kBlock ? left : C::kBlock;
  }
};

template <class C, bool kStochastic>
__global__ void encode_blocks(const float* x, std::size_t n, std::uint8_t* out, Job job) {
  __shared__ float value[kTile<C>][C::kBlock + 1];
  alignas(4) __shared__ std::uint8_t payload[kTile<C> * sizeof(typename C::Block)];
  const Tile<C> tile(n, job.options);
  for (std::uint32_t i = threadIdx.x; i < tile.n_values; i += blockDim.x)
    value[i / C::kBlock][i % C::kBlock] = x[tile.begin + i];
  __syncthreads();
  const std::uint32_t t = threadIdx.x;
  if (t < tile.n_blocks) {
    const std::size_t first = tile.begin + static_cast<std::size_t>(t) * C::kBlock;
    auto& block = *reinterpret_cast<typename C::Block*>(payload + t * tile.stride);
    if (!encode_block<C, kStochastic>(value[t], tile.length(t), job.options, job.nonfinite, job.key, job.index + first, block))
      atomicMin(job.first_bad, static_cast<unsigned long long>(first + first_above(value[t], tile.length(t), C::kLargestBits)));
  }
  __syncthreads();
  copy_bytes(payload, out + tile.offset(), tile.nbytes);
}

template <class C>
__global__ void decode_blocks(const std::uint8_t* in, std::size_t n, float* out, bool add, CodecOptions options) {
  __shared__ float value[kTile<C>][C::kBlock + 1];
  alignas(4) __shared__ std::uint8_t payload[kTile<C> * sizeof(typename C::Block)];
  const Tile<C> tile(n, options);
  copy_bytes(in + tile.offset(), payload, tile.nbytes);
  __syncthreads();
  const std::uint32_t t = threadIdx.x;
  if (t < tile.n_blocks)
    C::decode(*reinterpret_cast<const typename C::Block*>(payload + t * tile.stride), tile.length(t), options, value[t]);
  __syncthreads();
  for (std::uint32_t i = threadIdx.x; i < tile.n_values; i += blockDim.x) {
    const float decoded = value[i / C::kBlock][i % C::kBlock];
    out[tile.begin + i] = add ? out[tile.begin + i] + decoded : decoded;
  }
}

template <class C>
__global__ void encode_casts(const float* x, std::size_t n, typename C::Stored* out, Job job) {
  const std::size_t i = static_cast<std::size_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= n) return;
  if (job.nonfinite == Nonfinite::kRaise && (float_bits(x[i]) & 0x7fffffffu) >= kInfBits)
    atomicMin(job.first_bad, static_cast<unsigned long long>(i));
  out[i] = C::encode(x[i], job.options);
}

template <class C>
__global__ void encode_steps(const float* x, std::size_t n, typename C::Stored* out, Job job) {
  const std::size_t i = static_cast<std::size_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= n) return;
  if (!C::encodable(x[i], job.options))
    atomicMin(job.first_bad, static_cast<unsigned long long>(i));
  else
    out[i] = C::encode(x[i], job.options);
}

template <class C>
__global__ void decode_casts(const typename C::Stored* in, std::size_t n, float* out, bool add, CodecOptions options) {
  const std::size_t i = static_cast<std::size_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= n) return;
  const float decoded = C::decode(in[i], options);
  out[i] = add ? out[i] + decoded : decoded;
}

unsigned grid(std::size_t n, std::size_t per_block) { return static_cast<unsigned>((n + per_block - 1) / per_block); }

template <class C>
void launch_encode_blocks(const float* x, std::size_t n, std::uint8_t* out, const Job& job, cudaStream_t stream) {
  const unsigned blocks = grid(n, kTile<C> * static_cast<std::size_t>(C::kBlock));
  if ((C::kChoices & kRoundingChoice) && job.options.rounding == Rounding::kStochastic)
    SCRIMP_LAUNCH((encode_blocks<C, true>), blocks, 32, stream, x, n, out, job);
  else
    SCRIMP_LAUNCH((encode_blocks<C, false>), blocks, 32, stream, x, n, out, job);
}

constexpr unsigned kThreads = SCRIMP_CUDA_THREADS;

template <class C>
void launch_encode_casts(const float* x, std::size_t n, std::uint8_t* out, const Job& job, cudaStream_t stream) {
  auto* stored = reinterpret_cast<typename C::Stored*>(out);
  SCRIMP_LAUNCH(encode_casts<C>, grid(n, kThreads), kThreads, stream, x, n, stored, job);
}

template <class C>
void launch_encode_steps(const float* x, std::size_t n, std::uint8_t* out, const Job& job, cudaStream_t stream) {
  auto* stored = reinterpret_cast<typename C::Stored*>(out);
  SCRIMP_LAUNCH(encode_steps<C>, grid(n, kThreads), kThreads, stream, x, n, stored, job);
}

template <class C>
void launch_decode_blocks(const std::uint8_t* in, std::size_t n, float* out, bool add, const CodecOptions& options,
                          cudaStream_t stream) {
  const unsigned blocks = grid(n, kTile<C> * static_cast<std::size_t>(C::kBlock));
  SCRIMP_LAUNCH(decode_blocks<C>, blocks, 32, stream, in, n, out, add, options);
}

template <class C>
void launch_decode_casts(const std::uint8_t* in, std::size_t n, float* out, bool add, const CodecOptions& options,
                         cudaStream_t stream) {
  auto* stored = reinterpret_cast<const typename C::Stored*>(in);
  SCRIMP_LAUNCH(decode_casts<C>, grid(n, kThreads), kThreads, stream, stored, n, out, add, options);
}

struct Launches {
  const char* name;
  std::uint32_t variant;
  void (*encode)(const float*, std::size_t, std::uint8_t*, const Job&, cudaStream_t);
  void (*decode)(const std::uint8_t*, std::size_t, float*, bool, const CodecOptions&, cudaStream_t);
};

#define SCRIMP_BLOCK_ROW(C) {C::kName, C::kBlock, &launch_encode_blocks<C>, &launch_decode_blocks<C>},
#define SCRIMP_CAST_ROW(C) {C::kName, 0, &launch_encode_casts<C>, &launch_decode_casts<C>},
#define SCRIMP_STEP_ROW(C) {C::kName, C::kWidth, &launch_encode_steps<C>, &launch_decode_casts<C>},
constexpr Launches kLaunches[] = {SCRIMP_BLOCK_CODECS(SCRIMP_BLOCK_ROW) SCRIMP_CAST_CODECS(SCRIMP_CAST_ROW)
                                      SCRIMP_STEP_CODECS(SCRIMP_STEP_ROW)};
#undef SCRIMP_BLOCK_ROW
#undef SCRIMP_CAST_ROW
#undef SCRIMP_STEP_ROW

const Launches& find(const std::string& codec, const CodecOptions& options) {
  for (const Launches& row : kLaunches)
    if (codec == row.name && (options.variant == 0 || options.variant == row.variant)) return row;
  throw std::runtime_error("unknown codec '" + codec + "' on CUDA");
}

void check_launch(const std::string& codec) {
  const cudaError_t error = cudaGetLastError();
  if (error != cudaSuccess) throw std::runtime_error("CUDA kernel of codec " + codec + ": " + cudaGetErrorString(error));
}

}  // namespace

void encode(const std::string& codec, const CodecOptions& options, const float* x, std::size_t n, std::uint8_t* out,
            const EncodeArgs& args, unsigned long long* first_bad, cudaStream_t stream) {
  if (!n) return;
  const Job job{options, args.nonfinite, rng_key(args.seed, args.step), args.first_index, first_bad};
  find(codec, options).encode(x, n, out, job, stream);
  check_launch(codec);
}

void decode(const std::string& codec, const CodecOptions& options, const std::uint8_t* in, std::size_t n, float* out,
            bool add, cudaStream_t stream) {
  if (!n) return;
  find(codec, options).decode(in, n, out, add, options, stream);
  check_launch(codec);
}

}  // namespace scrimp::cuda
