#pragma once
// Codecs on device memory. Every pointer is a device pointer; calls return once the kernel is queued on `stream`, and
// throw std::runtime_error when the launch fails. Payloads are byte for byte those of kernels/codec.h.
#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <string>

#include "codecs/options.h"

namespace scrimp::cuda {

struct EncodeArgs {
  std::uint64_t seed = 0, step = 0, first_index = 0;
  Nonfinite nonfinite = Nonfinite::kRaise;
};

// Encodes x[n] into out. *first_bad must hold ~0 before; it becomes the smallest index of a value that the codec refuses.
void encode(const std::string& codec, const CodecOptions& options, const float* x, std::size_t n, std::uint8_t* out,
            const EncodeArgs& args, unsigned long long* first_bad, cudaStream_t stream);

// out[n] = decoded, or += with `add`.
void decode(const std::string& codec, const CodecOptions& options, const std::uint8_t* in, std::size_t n, float* out,
            bool add, cudaStream_t stream);

}  // namespace scrimp::cuda
