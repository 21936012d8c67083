#pragma once
// Rows to int8 codes, chunk by chunk, for one thread; with the leaf's exact noise and column sums.
#include <cstdint>
#include <vector>

#include "kernels/matrix.h"
#include "kernels/rows.h"

namespace scrimp {

class LeafQuantizer {
 public:
  explicit LeafQuantizer(const QuantizeArgs& args);

  void begin_leaf();
  // Codes [n][d] of the rows begin … begin + n of args.x, centred at 2^(bits−1).
  void add(std::size_t begin, std::size_t n, std::int8_t* codes);
  // noise, sum [d] of the rows since begin_leaf: Σ w·f(1−f) in squared steps, Σ w·x.
  void end_leaf(double* noise, double* sum) const;

 private:
  template <class E>
  void run(std::size_t begin, std::size_t n, std::int8_t* codes);

  const QuantizeArgs& args_;
  RowReader rows_;
  std::vector<std::uint32_t> noise_;  // low and high halves
  std::vector<double> weighted_noise_, sum_, weight_;
};

}  // namespace scrimp
