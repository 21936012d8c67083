#pragma once
// A codec with its options: sizes, encode and decode of whole arrays with threads. What bindings, engine and C++ tests call.
#include <cstddef>
#include <cstdint>
#include <string>

#include "core/view.h"
#include "kernels/table.h"

namespace scrimp {

class Codec {
 public:
  // Throws std::invalid_argument that lists the known names, or the known variants of a name.
  Codec(const std::string& name, const CodecOptions& options);

  const CodecKernels& kernels() const { return *kernels_; }
  std::size_t block() const { return kernels_->block; }       // values that share a scale; arrays are cut at multiples of it
  std::size_t block_nbytes() const { return block_nbytes_; }  // bytes of a full block
  bool contractive() const { return kernels_->contractive(options_); }
  const CodecOptions& options() const { return options_; }

  std::size_t nbytes(std::size_t n) const;

  struct EncodeArgs {
    std::uint64_t seed = 0, step = 0, first_index = 0;
    Nonfinite nonfinite = Nonfinite::kRaise;
    int threads = 0;
    Feedback feedback = Feedback::kNone;
    float* state = nullptr;  // [x.size()] with feedback
  };
  // Encodes x into out[nbytes(x.size())]. Returns kAllEncoded or the index of the first value that cannot be encoded; out
  // and the state of all blocks but those with such a value are then undefined.
  std::size_t encode(const FloatView& x, std::uint8_t* out, const EncodeArgs& args) const;

  // Upper bound of |x - decoded| over x; infinity where there is none.
  double bound(const FloatView& x) const;

  // out[n] = decoded, or += with `add`.
  void decode(const std::uint8_t* in, std::size_t n, float* out, bool add, int threads) const;

 private:
  const CodecKernels* kernels_;
  CodecOptions options_;
  std::size_t block_nbytes_;
};

}  // namespace scrimp
