#pragma once
// What one ISA offers for linear models and for data in few bits: runs (arguments of one call) and function pointers.
// Included by the files compiled per ISA, so no std template may appear here.
#include <cstddef>
#include <cstdint>

namespace scrimp {

constexpr std::size_t kLeafRows = 4096;  // float sums over rows run over leaves of so many global rows (DESIGN "Leaves")
constexpr std::size_t kBlockRows = 8;    // rows that stay in cache between the product and the gradient
constexpr std::size_t kSlopeRows = 32;   // the same of codes: their slopes are integers under one unit

// Two codes of a row in 4 bits: byte i of a row of h = ⌈d/2⌉ bytes holds the codes i and i + h, each plus 8.
struct Nibbles {
  std::uint8_t both;
};

// Rows that are multiplied by all k outputs before the next ones are, a multiple of `block`: in a quarter of a
// second-level cache, so that the weights and gradients of many outputs are read once a group.
constexpr std::size_t group_rows(std::size_t row_nbytes, std::size_t k, std::size_t block) {
  const std::size_t rows = k == 1 ? 0 : 262144 / (row_nbytes + 1) / block * block;
  return rows > 256 ? 256 : rows > block ? rows : block;
}

// Loss, slope and gradient of `n` rows x[i] (elements of type E, contiguous, `stride` elements apart), accumulated.
template <class E, class T>
struct GradientRun {
  const E* x;
  std::ptrdiff_t stride;
  std::size_t n, d, k;
  const T* w;       // [k][d]
  const T* bias;    // [k]
  const T* y;       // [n][k], or [n] classes when y_is_class
  const T* weight;  // [n] or nullptr
  T parameter;      // of the loss
  bool y_is_class;
  T* z;             // scratch [kBlockRows + group_rows][k]
  void* fixed;      // the weights of codes, as fix_i8 or fix_u4 wrote them; then w is not read
  T* g;             // [k][d]
  double* g0;       // [k]
  double* value;
};

// Where the digits of the high nibbles of h bytes begin in a plane.
constexpr std::size_t high_nibbles_at(std::size_t h) { return (h + 63) / 64 * 64; }

// Columns that the digits of d weights take, the halves of a row of nibbles apart.
constexpr std::size_t code_stride(std::size_t d) { return (d + 191) / 64 * 64; }
constexpr std::size_t fixed_weights_nbytes(std::size_t d, std::size_t k) { return k * (16 + 4 * code_stride(d)); }

struct LossKernels {
  const char* name;
  bool over_outputs;  // couples the k outputs of a row
  void (*f32)(const GradientRun<float, float>&);
  void (*i8)(const GradientRun<std::int8_t, float>&);
  void (*u4)(const GradientRun<Nibbles, float>&);
  void (*f32_f64)(const GradientRun<float, double>&);
  void (*f64_f64)(const GradientRun<double, double>&);
  void (*i8_f64)(const GradientRun<std::int8_t, double>&);
  void (*slopes_f32)(const GradientRun<float, float>&);  // x: scores [n][k], d = k; g: their slopes [n][k], in place
  void (*slopes_f64)(const GradientRun<double, double>&);
};

// out[i][o] = x[i]·w[o] + bias[o].
template <class E>
struct ProductRun {
  const E* x;
  std::ptrdiff_t stride;
  std::size_t n, d, k;
  const float* w;     // [k][d]
  const float* bias;  // [k]
  float* out;         // [n][k]
};

// out[o][j] += Σ_r y[r][o]·x[r][j].
struct CrossRun {
  const std::int8_t* x;
  std::ptrdiff_t stride;
  std::size_t n, d, k;
  const double* y;  // [n][k]
  double* out;      // [k][d]
};

// c[i][j] += Σ_r a[r][i]·b[r][j] for the panels' columns i <= j, up to the width of one register past the diagonal.
struct GramRun {
  const double* a;  // [rows][width], the weighted rows
  const double* b;  // [rows][width]
  std::size_t rows, width;  // width: a multiple of kGramColumns
  double* c;        // [width][width]
  double* scratch;  // [2][rows][width]
};
constexpr std::size_t kGramColumns = 16;
constexpr std::size_t kGramRows = 64;  // that are added up before c takes them

// c[i][j] += Σ_r x[r][i]·x[r][j] exactly, for i <= j, and sum[i] += Σ_r x[r][i].
struct CodeGramRun {
  const std::int8_t* x;
  std::ptrdiff_t stride;
  std::size_t n, d;      // n <= kCodeGramRows
  std::uint8_t* scratch; // code_gram_nbytes(d) bytes, aligned to 64
  std::int64_t* c;       // [d][d]
  std::int64_t* sum;     // [d]
  std::uintptr_t next;   // what is read after this call, to be fetched meanwhile
  std::size_t next_nbytes;
};
constexpr std::size_t kCodeGramRows = 512;

// Codes of n rows on the grids low + scale·code, code in 0…levels, minus `centre`; with what they cost and summed to.
template <class E>
struct QuantizeRun {
  const E* x;
  std::ptrdiff_t stride;
  std::size_t n, d, d_all;    // d of the d_all columns of a row of codes
  const double* low;          // [d]
  const double* inverse;      // [d] 1/step of the grid, 0 for a constant column
  std::int32_t levels, centre;
  bool stochastic;
  std::uint64_t key, index;   // index: absolute row · d of the first row
  std::int8_t* codes;         // [n][d]
  std::uint32_t* noise;       // [d] Σ f(1−f)·2³² over at most kLeafRows rows, the low 15 bits of each term
  std::uint32_t* noise_high;  // [d] and its high bits
  const double* weight;       // [n] or nullptr
  double* weighted_noise;     // [d] Σ weight·f(1−f), when weight is given
  double* sum;                // [d] Σ weight·x
};

template <class E>
struct RangeRun {
  std::size_t n, d;
  E* low;    // [d]
  E* high;   // [d]
  E* apart;  // [d] Σ distance from the nearest integer
};

// Solves with a lower triangle for k right-hand sides, in place.
struct TriangularRun {
  const double* lower;  // [n][n], pivots above 0; what is above the diagonal is not read
  std::size_t n, k;
  double* x;            // [k][n]
};

struct MatrixKernels {
  void (*quantize_f32)(const QuantizeRun<float>&);
  void (*quantize_f64)(const QuantizeRun<double>&);
  bool (*range_f32)(const float* x, std::ptrdiff_t stride, const RangeRun<float>&);   // false: NaN or infinity met
  bool (*range_f64)(const double* x, std::ptrdiff_t stride, const RangeRun<double>&);
  void (*pack)(int bits, const std::int8_t* codes, std::size_t d, std::uint8_t* row);
  void (*unpack)(int bits, const std::uint8_t* row, std::size_t d, std::int8_t* codes);
};

struct LinearKernels {
  const LossKernels* losses;
  std::size_t n_losses;
  // w [k][d] into fixed_weights_nbytes(d, k) bytes of memory; scratch [d].
  void (*fix_i8)(const float* w, std::size_t d, std::size_t k, std::int32_t* scratch, void* memory);
  void (*fix_u4)(const float* w, std::size_t d, std::size_t k, std::int32_t* scratch, void* memory);
  void (*product_f32)(const ProductRun<float>&);
  void (*product_i8)(const ProductRun<std::int8_t>&);
  void (*cross)(const CrossRun&);
  void (*gram)(const GramRun&);
  std::size_t (*code_gram_nbytes)(std::size_t d);
  void (*code_gram)(const CodeGramRun&);
  void (*solve_lower)(const TriangularRun&);             // lower·x = b
  void (*solve_lower_transposed)(const TriangularRun&);  // lowerᵀ·x = b
  MatrixKernels matrix;
};

}  // namespace scrimp
