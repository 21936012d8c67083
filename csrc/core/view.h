#pragma once
// A read-only view of an array of any float dtype and any strides, in C order. It does not own the memory and knows
// nothing of NumPy; read() turns any range of it into contiguous fp32.
#include <array>
#include <cstddef>
#include <cstdint>

namespace scrimp {

float half_to_float(std::uint16_t bits);  // exact

enum class FloatType : std::uint8_t { kF16, kF32, kF64 };

struct FloatView {
  static constexpr int kMaxDims = 8;
  const std::byte* data = nullptr;
  FloatType type = FloatType::kF32;
  int ndim = 1;
  std::array<std::size_t, kMaxDims> shape{};
  std::array<std::ptrdiff_t, kMaxDims> strides{};  // in bytes

  std::size_t size() const;
  // The values as one contiguous fp32 run, or nullptr when they are not stored so.
  const float* contiguous() const;
  // Writes values [begin, begin + n) in C order to out, rounded to fp32 (half to even; float64 above its range: inf).
  void read(std::size_t begin, std::size_t n, float* out) const;
};

}  // namespace scrimp
