#include "kernels/matmul.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "codecs/packing.h"
#include "core/check.h"
#include "core/parallel.h"
#include "kernels/table.h"

namespace scrimp {
namespace {


// Up to here it is faster to read the blocks once a row, in registers, than to decode them for all rows into the cache
// (4096 × 4096 int4, one thread: 0.36 ms a row against 1.8 ms for one to four).
constexpr std::size_t kFewRows = 4;

const MatmulKernels& kernels() { return *active_table().matmul; }

int code_bits(const Codec& codec) {
  const char* name = codec.kernels().name;
  return !std::strcmp(name, "int8") ? 8 : !std::strcmp(name, "int4") ? 4 : 0;
}

// Rows begin on blocks of the size that the fast loops are written for.
bool has_whole_blocks(const MatmulArgs& args) {
  return code_bits(*args.codec) && args.codec->block() == kMatmulBlock && args.x.d % kMatmulBlock == 0;
}

// Rows of X as float, a few at a time.
class FloatRows {
 public:
  explicit FloatRows(const MatmulArgs& args) : args_(args), reader_(args.x) {
    if (args.scale && !args.x.is_codes()) factor_.assign(args.scale, args.scale + args.x.d);
  }

  Rows<float> read(std::size_t begin, std::size_t n) {
    const std::size_t d = args_.x.d;
    if (!args_.scale) return reader_.read<float>(begin, n);
    values_.resize(n * d);
    if (args_.x.is_codes()) decode_rows(reader_.read<std::int8_t>(begin, n), n);
    else scale_rows(reader_.read<float>(begin, n), n);
    return {values_.data(), static_cast<std::ptrdiff_t>(d)};
  }

 private:
  void decode_rows(const Rows<std::int8_t>& rows, std::size_t n) {
    const std::size_t d = args_.x.d;
    for (std::size_t i = 0; i < n; ++i) {
      const std::int8_t* x = rows.x + static_cast<std::ptrdiff_t>(i) * rows.stride;
      for (std::size_t j = 0; j < d; ++j)
        values_[i * d + j] = static_cast<float>((args_.offset ? args_.offset[j] : 0.0) + args_.scale[j] * x[j]);
    }
  }

  void scale_rows(const Rows<float>& rows, std::size_t n) {
    const std::size_t d = args_.x.d;
    for (std::size_t i = 0; i < n; ++i) {
      const float* x = rows.x + static_cast<std::ptrdiff_t>(i) * rows.stride;
      for (std::size_t j = 0; j < d; ++j) values_[i * d + j] = factor_[j] * x[j];
    }
  }

  const MatmulArgs& args_;
  RowReader reader_;
  std::vector<float> values_, factor_;
};

// Scratch that begins on a cache line: loads of a whole register do not straddle two.
template <class T>
class Lines {
 public:
  T* resize(std::size_t n) {
    bytes_.resize(n * sizeof(T) + 64);
    return data();
  }
  T* data() {
    const auto at = reinterpret_cast<std::uintptr_t>(bytes_.data());
    return reinterpret_cast<T*>(bytes_.data() + (64 - at % 64) % 64);
  }

 private:
  std::vector<std::byte> bytes_;
};

// Part of the work of one call: some rows with some outputs, and the scratch of one thread.
class Part {
 public:
  explicit Part(const MatmulArgs& args, float* out)
      : args_(args), out_(out), rows_(args), whole_(has_whole_blocks(args)) {}

  // Rows [i, i + n), n <= kMatmulRows, with outputs [begin, end).
  void run(std::size_t i, std::size_t n, std::size_t begin, std::size_t end) {
    const Rows<float> x = rows_.read(i, n);
    float* out = out_ + i * args_.k;
    if (args_.round_rows) return round(x, n, out, begin, end);
    if (whole_ && n <= kFewRows) {
      for (std::size_t r = 0; r < n; ++r)
        matvec(x.x + static_cast<std::ptrdiff_t>(r) * x.stride, out + r * args_.k, begin, end);
      return;
    }
    for (std::size_t o = begin; o < end; o += kMatmulOutputs) dot(x, n, out, o, std::min(kMatmulOutputs, end - o));
  }

 private:
  const std::uint8_t* row_blocks(std::size_t o) const {
    return args_.w + o * (args_.x.d / kMatmulBlock) * args_.codec->block_nbytes();
  }

  void matvec(const float* x, float* out, std::size_t begin, std::size_t end) {
    const MatvecRun run{row_blocks(begin), args_.x.d / kMatmulBlock, end - begin, x, args_.bias + begin, out + begin};
    if (code_bits(*args_.codec) == 8) kernels().matvec_int8(run);
    else kernels().matvec_int4(run);
  }

  // Decodes the values [from, to) of the payload and what shares their blocks; returns where value `from` is.
  const float* decode(std::size_t from, std::size_t to, std::size_t at) {
    const std::size_t block = args_.codec->block(), total = args_.k * args_.x.d;
    const std::size_t first = from / block * block, last = std::min(total, (to + block - 1) / block * block);
    if (decoded_.size() < at + last - first) decoded_.resize(at + last - first);
    args_.codec->kernels().decode({args_.w + args_.codec->nbytes(first), last - first, decoded_.data() + at, false,
                                   &args_.codec->options()});
    return decoded_.data() + at + (from - first);
  }

  struct Tile {
    const float* w;
    std::size_t stride;
  };

  // Values [j, j + depth) of the outputs [o, o + k). Whole rows lie one after the other; else each is decoded by itself.
  Tile weights(std::size_t o, std::size_t k, std::size_t j, std::size_t depth) {
    const std::size_t d = args_.x.d, block = args_.codec->block();
    if (depth == d) return {decode(o * d, (o + k) * d, 0), d};
    const std::size_t stride = (depth + 2 * block + kMatmulLanes - 1) / kMatmulLanes * kMatmulLanes;
    decoded_.resize(std::max(decoded_.size(), k * stride));
    std::size_t lead = 0;
    for (std::size_t c = 0; c < k; ++c) {
      const std::size_t from = (o + c) * d + j;
      const float* at = decode(from, from + depth, c * stride);
      lead = static_cast<std::size_t>(at - (decoded_.data() + c * stride));
      if (lead) std::memmove(decoded_.data() + c * stride, at, depth * sizeof(float));
    }
    return {decoded_.data(), stride};
  }

  void dot(const Rows<float>& x, std::size_t n, float* out, std::size_t o, std::size_t k) {
    const std::size_t d = args_.x.d;
    sums_.resize(n * k * kMatmulLanes);
    for (std::size_t j = 0; j < d || j == 0; j += kMatmulDepth) {
      const std::size_t depth = std::min(kMatmulDepth, d - j);
      if (o != tile_output_ || j != tile_value_) tile_ = weights(o, k, j, depth);
      tile_output_ = o, tile_value_ = j;
      kernels().dot({x.x + j, x.stride, n, depth, tile_.w, tile_.stride, k, sums_.data(), j == 0, j + depth == d,
                     args_.bias + o, out + o, args_.k});
    }
  }

  void round(const Rows<float>& x, std::size_t n, float* out, std::size_t begin, std::size_t end) {
    const std::size_t d = args_.x.d, n_blocks = (d + kMatmulBlock - 1) / kMatmulBlock;
    const std::size_t code_stride = (n_blocks + 1) * kMatmulBlock;  // a stretch may read a block's length from its begin
    const int bits = code_bits(*args_.codec);
    codes_.resize(n * code_stride);
    corrections_.resize(n * n_blocks * kMatmulLanes);
    scale_.resize(n);
    kernels().round_rows({x.x, x.stride, n, d, bits, codes_.data(), code_stride, corrections_.data(), scale_.data()});
    if (!whole_) {
      for (std::size_t o = begin; o < end; ++o) add_pieces(n, code_stride, out, o);
      return;
    }
    const CodeMatmulRun run{row_blocks(begin), n_blocks, end - begin, codes_.data(), code_stride, corrections_.data(),
                            scale_.data(), n, args_.bias + begin, out + begin, args_.k};
    if (bits == 8) kernels().code_matmul_int8(run);
    else kernels().code_matmul_int4(run);
  }

  // Output o where blocks do not end with rows: one stretch of a block after the other.
  void add_pieces(std::size_t n, std::size_t code_stride, float* out, std::size_t o) {
    const std::size_t d = args_.x.d, piece = std::min(args_.codec->block(), kMatmulBlock);
    sums_.assign(n * kMatmulLanes, 0.0f);
    for (std::size_t from = o * d; from < (o + 1) * d;) {
      const std::size_t to = std::min((o + 1) * d, from / piece * piece + piece);
      std::int8_t w[kMatmulBlock] = {};
      const float scale = read_codes(from, to, w);
      kernels().add_piece({w, scale, codes_.data() + (from - o * d), code_stride, n, sums_.data()});
      from = to;
    }
    for (std::size_t i = 0; i < n; ++i) {
      float* lane = sums_.data() + i * kMatmulLanes;
      for (std::size_t width = kMatmulLanes / 2; width; width /= 2)
        for (std::size_t l = 0; l < width; ++l) lane[l] += lane[l + width];
      out[i * args_.k + o] = lane[0] * scale_[i] + args_.bias[o];
    }
  }

  // Signed codes of the values [from, to), which lie in one block; returns its scale.
  float read_codes(std::size_t from, std::size_t to, std::int8_t* w) const {
    const std::size_t block = args_.codec->block(), total = args_.k * args_.x.d, first = from / block * block;
    const auto n = static_cast<std::uint32_t>(std::min(block, total - first));
    const std::uint8_t* stored = args_.w + args_.codec->nbytes(first);
    float scale;
    std::memcpy(&scale, stored, sizeof scale);
    std::int8_t code[1024];
    if (code_bits(*args_.codec) == 8) {
      std::memcpy(code, stored + 4, n);
    } else {
      unpack_codes<4>(stored + 4, n, [&](std::uint32_t i, std::uint32_t c) { code[i] = static_cast<std::int8_t>(c) - 8; });
    }
    std::memcpy(w, code + (from - first), to - from);
    return scale;
  }

  const MatmulArgs& args_;
  float* out_;
  FloatRows rows_;
  bool whole_;
  std::vector<float> decoded_, sums_, scale_;
  Lines<std::int8_t> codes_;
  Lines<std::int32_t> corrections_;
  Tile tile_{};
  std::size_t tile_output_ = ~std::size_t{0}, tile_value_ = 0;  // what tile_ holds: decoded once where all fits
};

}  // namespace

bool multiplies_codes(const Codec& codec) { return code_bits(codec) != 0; }

void matmul(const MatmulArgs& args, float* out) {
  const std::size_t n = args.x.n, d = args.x.d, k = args.k;
  require(!args.round_rows || multiplies_codes(*args.codec), "int8 activations need int8 or int4 weights, not ", args.codec->kernels().name);
  if (n == 0 || k == 0) return;
  const int threads = choose_threads(args.threads, std::max(args.codec->nbytes(k * d), n * d * sizeof(float)));
  const std::size_t n_threads = static_cast<std::size_t>(threads);
  if (n >= n_threads * kMatmulRows || k < n_threads * kMatmulOutputs) {
    parallel_for(n, kMatmulRows, threads, [&](std::size_t begin, std::size_t end) {
      Part part(args, out);
      for (std::size_t i = begin; i < end; i += kMatmulRows) part.run(i, std::min(kMatmulRows, end - i), 0, k);
    });
    return;
  }
  parallel_for(k, kMatmulOutputs, threads, [&](std::size_t begin, std::size_t end) {
    Part part(args, out);
    for (std::size_t i = 0; i < n; i += kMatmulRows) part.run(i, std::min(kMatmulRows, n - i), begin, end);
  });
}

}  // namespace scrimp
