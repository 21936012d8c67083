// Holds every codec on the GPU against the CPU, byte for byte: all roundings, odd lengths, zeros, denormals, NaN.
// Prints one line a codec and exits with 1 at the
// first difference. Without a GPU, tests/cuda/on_cpu runs the kernels on CPU threads. Argument: the largest length.
#include <cuda_runtime_api.h>

#include <cmath>
#include <cstdio>
#include <cstring>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "cuda/codec.h"
#include "kernels/codec.h"

namespace {

void check(cudaError_t error) {
  if (error != cudaSuccess) throw std::runtime_error(cudaGetErrorString(error));
}

template <class T>
class DeviceArray {
 public:
  explicit DeviceArray(const std::vector<T>& host) : n_(host.size()) {
    check(cudaMalloc(reinterpret_cast<void**>(&data_), (n_ + 1) * sizeof(T)));
    check(cudaMemcpy(data_, host.data(), n_ * sizeof(T), cudaMemcpyHostToDevice));
  }
  ~DeviceArray() { cudaFree(data_); }
  DeviceArray(const DeviceArray&) = delete;
  DeviceArray& operator=(const DeviceArray&) = delete;
  T* data() const { return data_; }
  std::vector<T> host() const {
    std::vector<T> out(n_);
    check(cudaMemcpy(out.data(), data_, n_ * sizeof(T), cudaMemcpyDeviceToHost));
    return out;
  }

 private:
  T* data_ = nullptr;
  std::size_t n_;
};

std::vector<float> values(std::size_t n) {
  std::mt19937 generator(static_cast<unsigned>(n) + 1);
  std::normal_distribution<float> normal;
  std::vector<float> x(n);
  for (std::size_t i = 0; i < n; ++i) {
    x[i] = normal(generator);
    if (i / 256 % 7 == 3) x[i] = 0;
    if (i / 256 % 7 == 4) x[i] *= 1e-40f;
    if (i / 256 % 7 == 5) x[i] = 1.5f;
    if (i / 256 % 7 == 6) x[i] *= 1e30f * static_cast<float>(i % 3);
  }
  return x;
}

scrimp::FloatView view_of(const std::vector<float>& x) {
  scrimp::FloatView view;
  view.data = reinterpret_cast<const std::byte*>(x.data());
  view.shape[0] = x.size();
  view.strides[0] = sizeof(float);
  return view;
}

template <class T>
void require_same(const std::vector<T>& cpu, const std::vector<T>& gpu, const std::string& what) {
  for (std::size_t i = 0; i < cpu.size(); ++i)
    if (std::memcmp(&cpu[i], &gpu[i], sizeof(T)))
      throw std::runtime_error(what + ": first difference at " + std::to_string(i) + " of " + std::to_string(cpu.size()));
}

void check_encode_and_decode(const scrimp::Codec& codec, const std::vector<float>& x, scrimp::Nonfinite policy, const std::string& what) {
  const std::size_t n = x.size(), nbytes = codec.nbytes(n);
  std::vector<std::uint8_t> payload(nbytes);
  const std::size_t bad = codec.encode(view_of(x), payload.data(), {7, 3, 1024, policy, 1});
  const DeviceArray<float> device_x(x);
  const DeviceArray<std::uint8_t> device_payload{std::vector<std::uint8_t>(nbytes)};
  const DeviceArray<unsigned long long> device_bad{std::vector<unsigned long long>(1, ~0ull)};
  scrimp::cuda::encode(codec.kernels().name, codec.options(), device_x.data(), n, device_payload.data(), {7, 3, 1024, policy},
                       device_bad.data(), nullptr);
  if (n && device_bad.host()[0] != bad) throw std::runtime_error(what + ": another value was refused");
  if (bad != scrimp::kAllEncoded) return;
  require_same(payload, device_payload.host(), what + " encode");
  for (bool add : {false, true}) {
    std::vector<float> y(x);
    const DeviceArray<float> device_y(x);
    codec.decode(payload.data(), n, y.data(), add, 1);
    scrimp::cuda::decode(codec.kernels().name, codec.options(), device_payload.data(), n, device_y.data(), add, nullptr);
    require_same(y, device_y.host(), what + (add ? " decode-add" : " decode"));
  }
}

void check_codec(const scrimp::CodecKernels& row, std::size_t largest) {
  for (scrimp::Rounding rounding : {scrimp::Rounding::kNearest, scrimp::Rounding::kStochastic}) {
    scrimp::CodecOptions options;
    options.rounding = rounding;
    options.step = 0.125f;
    options.variant = row.variant;
    const scrimp::Codec codec(row.name, options);
    for (const std::size_t n : {0, 1, 2, 31, 127, 128, 129, 1023, 1024, 1025, 4097, 100003, 1000003}) {
      if (n > largest) continue;
      const std::string what = std::string(row.name) + " " + std::to_string(row.variant) + " n=" + std::to_string(n);
      auto x = values(n);
      check_encode_and_decode(codec, x, scrimp::Nonfinite::kPropagate, what);
      if (n < 128) continue;
      x[n / 2] = std::nanf("");
      x[n - 1] = INFINITY;
      for (auto policy : {scrimp::Nonfinite::kRaise, scrimp::Nonfinite::kSaturate, scrimp::Nonfinite::kPropagate})
        check_encode_and_decode(codec, x, policy, what + " with NaN");
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  try {
    const std::size_t largest = argc > 1 ? std::stoul(argv[1]) : 1000003;
    const scrimp::KernelTable& table = scrimp::active_table();
    for (std::size_t i = 0; i < table.n_codecs; ++i) {
      check_codec(table.codecs[i], largest);
      std::printf("%s: GPU and CPU agree byte for byte\n", table.codecs[i].name);
    }
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
