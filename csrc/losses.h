#pragma once
// Losses as pure functions of one sample: value and slope (derivative by the prediction z), for float and double alike.
// Loops are stamped from the lists at the end; a loss is one functor and one entry. Branch-free, so that loops over
// samples vectorise; own exp and log1p, because those of libm round differently from one machine to the next.
// Unnamed namespace: every ISA keeps its own copy.
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "core/hd.h"

namespace scrimp {
namespace {

template <class T>
struct FloatBits;
template <>
struct FloatBits<float> {
  using Int = std::uint32_t;
  static constexpr int kMantissa = 23;
  static constexpr Int kBias = 127;
  static constexpr float kRounder = 12582912.0f;  // 1.5·2²³: adding it leaves the rounded integer in the low bits
  static constexpr float kLn2High = 0x1.62e4p-1f, kLn2Low = 0x1.7f7d1cp-20f;
  static constexpr float kLowest = -87.0f;
  static constexpr int kExpDegree = 7, kLogTerms = 7;
};
template <>
struct FloatBits<double> {
  using Int = std::uint64_t;
  static constexpr int kMantissa = 52;
  static constexpr Int kBias = 1023;
  static constexpr double kRounder = 6755399441055744.0;
  static constexpr double kLn2High = 0x1.62e42feep-1, kLn2Low = 0x1.a39ef35793c76p-33;
  static constexpr double kLowest = -708.0;
  static constexpr int kExpDegree = 13, kLogTerms = 17;
};

// exp(x) for x <= 0; below kLowest it stays at exp(kLowest), about the smallest normal number. Relative error < 2 ulp:
// x = n·ln2 + r, Taylor polynomial of r, exponent bits of 2ⁿ.
template <class T>
SCRIMP_HD T exp_nonpositive(T x) {
  using B = FloatBits<T>;
  x = x < B::kLowest ? B::kLowest : x;
  const T shifted = x * static_cast<T>(1.4426950408889634) + B::kRounder;
  const T n = shifted - B::kRounder;
  const T r = (x - n * B::kLn2High) - n * B::kLn2Low;
  T sum = 1;
  for (int i = B::kExpDegree; i > 0; --i) sum = sum * (r * static_cast<T>(1.0 / i)) + 1;
  typename B::Int bits;
  memcpy(&bits, &shifted, sizeof bits);
  bits = (bits + B::kBias) << B::kMantissa;
  T power;
  memcpy(&power, &bits, sizeof power);
  return sum * power;
}

// log(1 + u) for 0 <= u <= 1, as 2·atanh(u/(2+u)).
template <class T>
SCRIMP_HD T log1p_unit(T u) {
  const T s = u / (2 + u), square = s * s;
  T sum = 0;
  for (int i = FloatBits<T>::kLogTerms - 1; i > 0; --i) sum = (sum + static_cast<T>(1.0 / (2 * i + 1))) * square;
  return 2 * s * (1 + sum);
}

// log(x) for finite x >= 1: exponent bits apart, log1p_unit of the mantissa.
template <class T>
SCRIMP_HD T log_above_one(T x) {
  using B = FloatBits<T>;
  typename B::Int bits, one = B::kBias << B::kMantissa;
  memcpy(&bits, &x, sizeof bits);
  const T exponent = static_cast<T>(static_cast<std::int32_t>((bits - one) >> B::kMantissa));
  bits = (bits & ((typename B::Int{1} << B::kMantissa) - 1)) | one;
  T mantissa;
  memcpy(&mantissa, &bits, sizeof mantissa);
  return exponent * B::kLn2High + (exponent * B::kLn2Low + log1p_unit(mantissa - 1));
}

// ½(z − y)².
struct HalfSquared {
  static constexpr const char* kName = "squared";
  template <class T>
  static SCRIMP_HD T value(T z, T y, T, T& slope) {
    slope = z - y;
    return static_cast<T>(0.5) * slope * slope;
  }
};

// Negative log-likelihood of P(1) = 1/(1 + exp(−z)); y in [0, 1], soft targets included.
struct Logistic {
  static constexpr const char* kName = "logistic";
  template <class T>
  static SCRIMP_HD T value(T z, T y, T, T& slope) {
    const T e = exp_nonpositive(z < 0 ? z : -z);
    const T larger = 1 / (1 + e);
    slope = (z < 0 ? e * larger : larger) - y;
    return (z < 0 ? 0 : z) + log1p_unit(e) - y * z;
  }
};

// ½r² for |r| <= delta, delta·(|r| − ½·delta) beyond, r = z − y.
struct Huber {
  static constexpr const char* kName = "huber";
  template <class T>
  static SCRIMP_HD T value(T z, T y, T delta, T& slope) {
    const T r = z - y;
    slope = r < -delta ? -delta : r > delta ? delta : r;
    return slope * (r - static_cast<T>(0.5) * slope);
  }
};

// Negative log-likelihood of softmax(z) for k outputs: y holds one row of soft targets, or the number of the class.
struct Softmax {
  static constexpr const char* kName = "softmax";
  // z and slope of output o lie at [o * kStride].
  static constexpr std::size_t kStride = 8;
  template <class T>
  static SCRIMP_HD T value(const T* z, const T* bias, const T* y, std::size_t k, bool y_is_class, T* slope) {
    T top = z[0] + bias[0];
    for (std::size_t o = 1; o < k; ++o) top = z[o * kStride] + bias[o] > top ? z[o * kStride] + bias[o] : top;
    T sum = 0, mass = 0, loss = 0;
    for (std::size_t o = 0; o < k; ++o) sum += slope[o * kStride] = exp_nonpositive(z[o * kStride] + bias[o] - top);
    const T inverse = 1 / sum, log_sum = log_above_one(sum);
    for (std::size_t o = 0; o < k; ++o) {
      const T target = y_is_class ? static_cast<T>(y[0] == static_cast<T>(o)) : y[o];
      mass += target;
      loss += target * (log_sum - (z[o * kStride] + bias[o] - top));
    }
    for (std::size_t o = 0; o < k; ++o) {
      const T target = y_is_class ? static_cast<T>(y[0] == static_cast<T>(o)) : y[o];
      slope[o * kStride] = slope[o * kStride] * inverse * mass - target;
    }
    return loss;
  }
};

}  // namespace
}  // namespace scrimp

#define SCRIMP_SCALAR_LOSSES(X) X(HalfSquared) X(Logistic) X(Huber)
#define SCRIMP_ROW_LOSSES(X) X(Softmax)
