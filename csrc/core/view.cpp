#include "core/view.h"

#include <cstring>

namespace scrimp {
float half_to_float(std::uint16_t h) {
  const std::uint32_t sign = static_cast<std::uint32_t>(h & 0x8000u) << 16;
  const std::uint32_t exponent = (h >> 10) & 31u, mantissa = h & 0x3ffu;
  std::uint32_t bits;
  if (exponent == 31) {
    bits = 0x7f800000u | (mantissa << 13);
  } else if (exponent) {
    bits = ((exponent + 112) << 23) | (mantissa << 13);
  } else {
    const float value = static_cast<float>(mantissa) * 0x1p-24f;
    std::memcpy(&bits, &value, 4);
  }
  bits |= sign;
  float out;
  std::memcpy(&out, &bits, 4);
  return out;
}

namespace {

template <class T>
float load_as_float(const std::byte* p) {
  T value;
  std::memcpy(&value, p, sizeof value);
  return static_cast<float>(value);
}

float load_half(const std::byte* p) {
  std::uint16_t bits;
  std::memcpy(&bits, p, sizeof bits);
  return half_to_float(bits);
}

template <float (*kLoad)(const std::byte*)>
void read_row(const std::byte* p, std::ptrdiff_t stride, std::size_t n, float* out) {
  for (std::size_t i = 0; i < n; ++i) out[i] = kLoad(p + static_cast<std::ptrdiff_t>(i) * stride);
}

void read_row(FloatType type, const std::byte* p, std::ptrdiff_t stride, std::size_t n, float* out) {
  switch (type) {
    case FloatType::kF16: return read_row<load_half>(p, stride, n, out);
    case FloatType::kF32: return read_row<load_as_float<float>>(p, stride, n, out);
    case FloatType::kF64: return read_row<load_as_float<double>>(p, stride, n, out);
  }
}

}  // namespace

std::size_t FloatView::size() const {
  std::size_t n = 1;
  for (int d = 0; d < ndim; ++d) n *= shape[d];
  return n;
}

const float* FloatView::contiguous() const {
  if (type != FloatType::kF32) return nullptr;
  std::ptrdiff_t expected = sizeof(float);
  for (int d = ndim - 1; d >= 0; --d) {
    if (shape[d] > 1 && strides[d] != expected) return nullptr;
    expected *= static_cast<std::ptrdiff_t>(shape[d]);
  }
  return reinterpret_cast<const float*>(data);
}

void FloatView::read(std::size_t begin, std::size_t n, float* out) const {
  const std::size_t inner = ndim ? shape[ndim - 1] : 1;
  const std::ptrdiff_t stride = ndim ? strides[ndim - 1] : 0;
  while (n) {
    const std::byte* p = data;
    std::size_t row = begin / inner, column = begin % inner;
    for (int d = ndim - 2; d >= 0; --d) {
      p += static_cast<std::ptrdiff_t>(row % shape[d]) * strides[d];
      row /= shape[d];
    }
    const std::size_t count = n < inner - column ? n : inner - column;
    read_row(type, p + static_cast<std::ptrdiff_t>(column) * stride, stride, count, out);
    begin += count;
    out += count;
    n -= count;
  }
}

}  // namespace scrimp
