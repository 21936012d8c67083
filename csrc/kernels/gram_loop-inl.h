// Gram matrices: float64 over panels of rows, and the exact one of int8 codes. Only columns i <= j are defined.
// Compiled once per ISA: no std template, unnamed namespace.
#pragma once
#include "kernels/linear_table.h"
#include "kernels/wide-inl.h"

namespace scrimp {
namespace {

// Columns i, and j in registers of 8 lanes, held at once: all sums fit the registers. No influence on the result.
constexpr std::size_t kGramTile = kNativeBytes == 16 ? 2 : 4;
constexpr std::size_t kGramParts = kNativeBytes == 64 ? 2 : 1;
constexpr std::size_t kStripColumns = kGramParts * Wide<double>::kLanes;
static_assert(kGramColumns % kStripColumns == 0 && kStripColumns % kGramTile == 0, "strips must fill the panels");

// Columns in strips, one after the other: a tile reads them without gaps, whatever the width.
inline const double* pack_strips(const double* x, std::size_t rows, std::size_t width, double* strips) {
  for (std::size_t c = 0; c < width; c += kStripColumns)
    for (std::size_t r = 0; r < rows; ++r) memcpy(strips + c * rows + r * kStripColumns, x + r * width + c, kStripColumns * sizeof(double));
  return strips;
}

// c[t][…] += Σ_r a[r][t]·b[r][…], up to kGramRows rows in order; rows of a and b are kStripColumns apart, those of c `width`.
inline void gram_tile(const double* a, const double* b, std::size_t rows, std::size_t width, double* c) {
  using W = Wide<double>;
  W sum[kGramTile][kGramParts];
#pragma GCC unroll 4
  for (std::size_t t = 0; t < kGramTile; ++t)
    for (std::size_t p = 0; p < kGramParts; ++p) sum[t][p] = W::zero();
  for (std::size_t r = 0; r < rows; ++r, a += kStripColumns, b += kStripColumns) {
    W column[kGramParts];
#pragma GCC unroll 2
    for (std::size_t p = 0; p < kGramParts; ++p) column[p] = W::load(b + p * W::kLanes);
#pragma GCC unroll 4
    for (std::size_t t = 0; t < kGramTile; ++t) {
      const W at = W::all(a[t]);
#pragma GCC unroll 2
      for (std::size_t p = 0; p < kGramParts; ++p) sum[t][p] = sum[t][p] + at * column[p];
    }
  }
#pragma GCC unroll 4
  for (std::size_t t = 0; t < kGramTile; ++t, c += width)
#pragma GCC unroll 2
    for (std::size_t p = 0; p < kGramParts; ++p) (W::load(c + p * W::kLanes) + sum[t][p]).store(c + p * W::kLanes);
}

void gram_panel(const GramRun& run) {
  const double* b = pack_strips(run.b, run.rows, run.width, run.scratch);
  const double* a = run.a == run.b ? b : pack_strips(run.a, run.rows, run.width, run.scratch + run.rows * run.width);
  for (std::size_t j = 0; j < run.width; j += kStripColumns)
    for (std::size_t i = 0; i < j + kStripColumns; i += kGramTile) {
      const double* columns = a + i / kStripColumns * kStripColumns * run.rows + i % kStripColumns;
      for (std::size_t r = 0; r < run.rows; r += kGramRows)
        gram_tile(columns + r * kStripColumns, b + j * run.rows + r * kStripColumns,
                  run.rows - r < kGramRows ? run.rows - r : kGramRows, run.width, run.c + i * run.width + j);
    }
}

// --- codes ---------------------------------------------------------------------------------------------------------
// A cell is 32 bits: the codes of one column in kCellRows consecutive rows. One instruction multiplies the cells of a
// register by one broadcast cell and adds up within each cell: bytes with AVX-512 VNNI, where one side must be unsigned
// and is the code + 128, else pairs of int16. All exact: 512 rows of 255·128 add up to 2²⁴.
#if defined(__AVX512VNNI__)
constexpr std::size_t kCellRows = 4;
constexpr std::int64_t kCodeBias = 128;  // on the side of the columns j
using CellCode = std::uint8_t;
#else
constexpr std::size_t kCellRows = 2;
constexpr std::int64_t kCodeBias = 0;
using CellCode = std::int16_t;
#endif
constexpr std::size_t kCells = kCodeGramRows / kCellRows;
constexpr std::size_t kColumnCells = kCells + (kNativeBytes == 64 ? 0 : 4);  // no strips 4 KB apart, in one set of the cache

typedef std::int32_t NativeInt __attribute__((vector_size(kNativeBytes)));
constexpr std::size_t kIntLanes = kNativeBytes / sizeof(std::int32_t);
constexpr std::size_t kTileI = kNativeBytes == 64 ? 8 : 4;                 // columns i of one tile
constexpr std::size_t kTileJ = 2 * kIntLanes;                             // columns j of one tile
constexpr std::size_t kSquareJ = (kNativeBytes == 64 ? 1 : 8) * kTileJ;  // columns j that two tiles of columns i meet in turn
constexpr std::size_t kCodeColumns = 32;                                   // panels are padded to a multiple of it
static_assert(kCodeColumns % kTileI == 0 && kCodeColumns % kTileJ == 0, "tiles must fill the panels");

SCRIMP_HD NativeInt add_products(NativeInt sum, NativeInt cells, std::int32_t cell) {
  const NativeInt other = NativeInt{} + cell;
#if defined(__AVX512VNNI__)
  return (NativeInt)_mm512_dpbusd_epi32((__m512i)sum, (__m512i)cells, (__m512i)other);
#elif defined(__AVX512BW__)
  return sum + (NativeInt)_mm512_madd_epi16((__m512i)cells, (__m512i)other);
#elif defined(__AVX2__)
  return sum + (NativeInt)_mm256_madd_epi16((__m256i)cells, (__m256i)other);
#elif defined(__SSE2__)
  return sum + (NativeInt)_mm_madd_epi16((__m128i)cells, (__m128i)other);
#else
  typedef std::int16_t Halves __attribute__((vector_size(kNativeBytes)));
  const NativeInt low = (cells << 16 >> 16) * (other << 16 >> 16), high = (cells >> 16) * (other >> 16);
  static_assert(sizeof(Halves) == sizeof(NativeInt));
  return sum + low + high;
#endif
}

inline std::size_t padded_columns(std::size_t d) { return (d + kCodeColumns - 1) / kCodeColumns * kCodeColumns; }

// Cells of the columns j (biased) and i, each in strips of a tile's width: strip by strip, cell by cell.
struct CodePanels {
  std::int32_t *j, *i, *sum;
  std::size_t width;

  CodePanels(std::uint8_t* scratch, std::size_t d) : width(padded_columns(d)) {
    j = reinterpret_cast<std::int32_t*>(__builtin_assume_aligned(scratch, 64));
    i = j + width * kColumnCells;
    sum = i + width * kColumnCells;
  }
};

std::size_t code_gram_nbytes(std::size_t d) { return padded_columns(d) * (2 * kColumnCells + 1) * sizeof(std::int32_t); }

// Cells of 32 columns from kCellRows rows each, one after the other.
#if defined(__AVX512VNNI__) && defined(__AVX512VBMI__)
constexpr std::size_t kPackCells = 1;

// Four rows of 16 bytes lie in the lanes of a register, vpermb makes them 16 cells.
SCRIMP_HD void pack_columns(const std::int8_t* const* row, std::size_t c, std::size_t cell, const CodePanels& panels) {
  static_assert(kTileI == 8 && kTileJ == kCodeColumns);
  alignas(64) std::uint8_t order[64];
  for (int k = 0; k < 64; ++k) order[k] = static_cast<std::uint8_t>(16 * (k % 4) + k / 4);
  const __m512i index = _mm512_load_si512(order), bias = _mm512_set1_epi8(static_cast<char>(0x80));
  for (std::size_t t = 0; t < kCodeColumns; t += 16) {
    __m512i x = _mm512_castsi128_si512(_mm_loadu_si128(reinterpret_cast<const __m128i*>(row[0] + t)));
    x = _mm512_inserti32x4(x, _mm_loadu_si128(reinterpret_cast<const __m128i*>(row[1] + t)), 1);
    x = _mm512_inserti32x4(x, _mm_loadu_si128(reinterpret_cast<const __m128i*>(row[2] + t)), 2);
    x = _mm512_inserti32x4(x, _mm_loadu_si128(reinterpret_cast<const __m128i*>(row[3] + t)), 3);
    x = _mm512_permutexvar_epi8(index, x);
    std::int32_t* const strip = panels.i + (c + t) * kColumnCells + cell * kTileI;
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(strip), _mm512_castsi512_si256(x));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(strip + kTileI * kColumnCells), _mm512_extracti64x4_epi64(x, 1));
    _mm512_storeu_si512(panels.j + c * kColumnCells + cell * kTileJ + t, _mm512_xor_si512(x, bias));
  }
}
#elif defined(__AVX2__) && !defined(__AVX512F__)
constexpr std::size_t kPackCells = 4;  // fill a cache line of each strip

SCRIMP_HD __m256i widen16(const std::int8_t* codes) {
  return _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(codes)));
}

SCRIMP_HD void pack_columns(const std::int8_t* const* row, std::size_t c, std::size_t cell, const CodePanels& panels) {
  static_assert(kTileI == 4 && kTileJ == 16);
  for (std::size_t t = 0; t < kCodeColumns; t += kTileJ) {
    auto* i = reinterpret_cast<__m128i*>(panels.i + (c + t) * kColumnCells + cell * kTileI);
    auto* j = reinterpret_cast<__m256i*>(panels.j + (c + t) * kColumnCells + cell * kTileJ);
#pragma GCC unroll 4
    for (std::size_t p = 0; p < kPackCells; ++p, ++i, j += 2) {
      const __m256i x = widen16(row[2 * p] + t), y = widen16(row[2 * p + 1] + t);
      const __m256i even = _mm256_unpacklo_epi16(x, y), odd = _mm256_unpackhi_epi16(x, y);
      _mm_storeu_si128(i, _mm256_castsi256_si128(even));
      _mm_storeu_si128(i + kColumnCells, _mm256_castsi256_si128(odd));
      _mm_storeu_si128(i + 2 * kColumnCells, _mm256_extracti128_si256(even, 1));
      _mm_storeu_si128(i + 3 * kColumnCells, _mm256_extracti128_si256(odd, 1));
      _mm256_storeu_si256(j, _mm256_permute2x128_si256(even, odd, 0x20));
      _mm256_storeu_si256(j + 1, _mm256_permute2x128_si256(even, odd, 0x31));
    }
  }
}
#else
constexpr std::size_t kPackCells = 1;

// Writes 32 packed columns, which begin at column c, into the strips of width kTile.
template <std::size_t kTile>
inline void store_strips(const std::int32_t* cells, std::size_t c, std::size_t cell, std::int32_t* strips) {
  for (std::size_t t = 0; t < kCodeColumns; t += kTile)
    memcpy(strips + (c + t) * kColumnCells + cell * kTile, cells + t, kTile * sizeof(std::int32_t));
}

inline void pack_columns(const std::int8_t* const* row, std::size_t c, std::size_t cell, const CodePanels& panels) {
  CellCode codes[2][kCodeColumns * kCellRows];
  for (std::size_t r = 0; r < kCellRows; ++r)
    for (std::size_t t = 0; t < kCodeColumns; ++t) {
      codes[0][t * kCellRows + r] = static_cast<CellCode>(row[r][t] + kCodeBias);
      codes[1][t * kCellRows + r] = static_cast<CellCode>(row[r][t]);
    }
  std::int32_t cells[2][kCodeColumns];
  memcpy(cells, codes, sizeof cells);
  store_strips<kTileJ>(cells[0], c, cell, panels.j);
  store_strips<kTileI>(cells[1], c, cell, panels.i);
}
#endif

// Rows and columns beyond the last are zeros; what they give on the biased side meets zeros, or is not kept.
inline void pack_codes(const CodeGramRun& run, const CodePanels& panels) {
  constexpr std::size_t kRows = kCellRows * kPackCells;
  static const std::int8_t zeros[kCodeColumns] = {};
  for (std::size_t r = 0; r < run.n; r += kRows)
    for (std::size_t c = 0; c < run.d; c += kCodeColumns) {
      std::int8_t end[kRows][kCodeColumns];
      const std::int8_t* row[kRows];
      for (std::size_t p = 0; p < kRows; ++p) {
        row[p] = r + p < run.n ? run.x + static_cast<std::ptrdiff_t>(r + p) * run.stride + c : zeros;
        if (run.d - c >= kCodeColumns || row[p] == zeros) continue;
        memset(end[p], 0, kCodeColumns);
        memcpy(end[p], row[p], run.d - c);
        row[p] = end[p];
      }
      pack_columns(row, c, r / kCellRows, panels);
    }
}

// sum[c] += Σ_r x[r][c] over kRows rows: 16 bits hold the sum of 256 codes.
template <std::size_t kRows>
inline void add_row_codes(const std::int8_t* __restrict x, std::ptrdiff_t stride, std::size_t d, std::int32_t* __restrict sum) {
  for (std::size_t c = 0; c < d; ++c) {
    std::int16_t total = 0;
#pragma GCC unroll 8
    for (std::size_t r = 0; r < kRows; ++r)
      total = static_cast<std::int16_t>(total + x[static_cast<std::ptrdiff_t>(r) * stride + static_cast<std::ptrdiff_t>(c)]);
    sum[c] += total;
  }
}

// Sums of the columns i over the rows.
inline void sum_codes(const CodeGramRun& run, std::int32_t* sum) {
  constexpr std::size_t kTogether = 8;
  memset(sum, 0, run.d * sizeof *sum);
  const std::int8_t* x = run.x;
  std::size_t r = 0;
  for (; r + kTogether <= run.n; r += kTogether, x += static_cast<std::ptrdiff_t>(kTogether) * run.stride)
    add_row_codes<kTogether>(x, run.stride, run.d, sum);
  for (; r < run.n; ++r, x += run.stride) add_row_codes<1>(x, run.stride, run.d, sum);
  for (std::size_t c = 0; c < run.d; ++c) run.sum[c] += sum[c];
}

// Fetches `step` bytes from `ahead` on in each round.
inline void code_tile(const CodeGramRun& run, const CodePanels& panels, std::size_t i, std::size_t j, std::uintptr_t ahead, std::size_t step) {
  constexpr std::size_t kParts = kTileJ / kIntLanes;
  const std::int32_t *cells_i = panels.i + i * kColumnCells, *cells_j = panels.j + j * kColumnCells;
  NativeInt sum[kTileI][kParts] = {};
  const std::size_t n_cells = (run.n + kCellRows - 1) / kCellRows;
  for (std::size_t q = 0; q < n_cells; ++q, cells_i += kTileI, cells_j += kTileJ, ahead += step) {
    __builtin_prefetch(reinterpret_cast<const void*>(ahead), 0, 2);
    NativeInt column[kParts];
#pragma GCC unroll 2
    for (std::size_t p = 0; p < kParts; ++p) memcpy(&column[p], cells_j + p * kIntLanes, sizeof column[p]);
#pragma GCC unroll 8
    for (std::size_t t = 0; t < kTileI; ++t)
#pragma GCC unroll 2
      for (std::size_t p = 0; p < kParts; ++p) sum[t][p] = add_products(sum[t][p], column[p], cells_i[t]);
  }
  std::int32_t products[kTileI][kTileJ];
#pragma GCC unroll 8
  for (std::size_t t = 0; t < kTileI; ++t) 
#pragma GCC unroll 2
    for (std::size_t p = 0; p < kParts; ++p) memcpy(products[t] + p * kIntLanes, &sum[t][p], sizeof sum[t][p]);
  for (std::size_t t = 0; t < kTileI && i + t < run.d; ++t) {
    const std::int64_t bias = kCodeBias * panels.sum[i + t];
    std::int64_t* __restrict c = run.c + (i + t) * run.d + j;
    const std::size_t n = run.d - j < kTileJ ? run.d - j : kTileJ;
    for (std::size_t p = 0; p < n; ++p) c[p] += products[t][p] - bias;
  }
}

void code_gram_rows(const CodeGramRun& run) {
  const CodePanels panels(run.scratch, run.d);
  pack_codes(run, panels);
  sum_codes(run, panels.sum);
  const std::size_t strips = panels.width / kTileJ, n_rounds = strips * (strips + 1) / 2 * (kTileJ / kTileI) * kCells;
  const std::size_t step = run.next_nbytes / n_rounds + 1;
  std::uintptr_t ahead = run.next;
  for (std::size_t square = 0; square < run.d; square += kSquareJ)
    for (std::size_t pair = 0; pair < square + kSquareJ && pair < run.d; pair += 2 * kTileI)
      for (std::size_t j = square; j < square + kSquareJ && j < run.d; j += kTileJ)
        for (std::size_t i = pair; i < pair + 2 * kTileI && i < j + kTileJ && i < run.d; i += kTileI, ahead += step * kCells)
          code_tile(run, panels, i, j, ahead, step);
}

}  // namespace
}  // namespace scrimp
