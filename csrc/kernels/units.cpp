#include "kernels/units.h"

#include "kernels/table.h"

namespace scrimp {

void UnitsMap::weights(const double* u, double* w, double* intercept) {
  const std::size_t d = units_.d, k = units_.k, n = solved(), columns = outputs();
  for (std::size_t o = 0; o < columns; ++o)
    for (std::size_t j = 0; j < n; ++j) x_[o * n + j] = u[j * columns + o];
  if (units_.lower) active_table().linear->solve_lower_transposed({units_.lower, n, columns, x_.data()});
  for (std::size_t o = 0; o < columns; ++o)
    for (std::size_t j = 0; j < d * k / columns; ++j) w[j * columns + o] = x_[o * n + j] * units_.scale[j];
  for (std::size_t o = 0; o < k; ++o) {
    double shift = 0;
    for (std::size_t j = 0; j < d; ++j) shift += units_.mean[j] * w[j * k + o];
    intercept[o] = units_.centre[o] - shift;
    if (!units_.bias) continue;
    const std::size_t at = d * k + o;
    intercept[o] += units_.joint ? x_[at] * units_.scale[at] : u[at];
  }
}

double UnitsMap::gradient(const double* w, const double* sums, double n_rows, double* g) {
  constexpr std::size_t kLanes = 8;
  const std::size_t d = units_.d, k = units_.k, n = solved(), columns = outputs();
  const double* g0 = sums + d * k;
  double value = 0;
  for (std::size_t o = 0; o < k; ++o) {
    double square[kLanes] = {};
    for (std::size_t j = 0; j < d; ++j) square[j % kLanes] += w[j * k + o] * w[j * k + o];
    for (std::size_t width = kLanes / 2; width; width /= 2)
      for (std::size_t l = 0; l < width; ++l) square[l] += square[l + width];
    value += units_.penalty[o] * square[0];
  }
  for (std::size_t j = 0; j < d; ++j)
    for (std::size_t o = 0; o < k; ++o)
      g[j * k + o] = (sums[j * k + o] / n_rows - units_.mean[j] * (g0[o] / n_rows)) + units_.penalty[o] * w[j * k + o];
  if (units_.bias)
    for (std::size_t o = 0; o < k; ++o) g[d * k + o] = g0[o] / n_rows;
  for (std::size_t o = 0; o < columns; ++o)
    for (std::size_t j = 0; j < n; ++j) x_[o * n + j] = g[j * columns + o] * units_.scale[j];
  if (units_.lower) active_table().linear->solve_lower({units_.lower, n, columns, x_.data()});
  for (std::size_t o = 0; o < columns; ++o)
    for (std::size_t j = 0; j < n; ++j) g[j * columns + o] = x_[o * n + j];
  return g0[k] / n_rows + 0.5 * value;
}

}  // namespace scrimp
