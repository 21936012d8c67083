#pragma once
// Writing past the caches. Blocks of 132 or 68 bytes do not fit the lines that non-temporal stores want, so they are built
// in a small buffer that stays in the first-level cache, and whole lines leave it.
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "kernels/leaf-inl.h"

namespace scrimp {
namespace {

// Takes pieces of kPiece bytes at most, one behind the other, for memory that begins at `out`. When `stream` is off, the
// pieces are written in place.
template <std::size_t kPiece>
class LineWriter {
 public:
  LineWriter(std::uint8_t* out, bool stream)
      : stream_(stream), skip_(reinterpret_cast<std::uintptr_t>(out) % 64), fill_(skip_), line_(out - skip_) {}
  ~LineWriter() {
    if (!stream_) return;
    memcpy(line_ + skip_, buffer_ + skip_, fill_ - skip_);
    leaf::stream_end();
  }
  LineWriter(const LineWriter&) = delete;
  LineWriter& operator=(const LineWriter&) = delete;

  // Where the next piece may be written.
  std::uint8_t* room(std::uint8_t* in_place) { return stream_ ? buffer_ + fill_ : in_place; }

  void written(std::size_t nbytes) {
    if (!stream_) return;
    fill_ += nbytes;
    std::size_t done = 0;
    if (skip_ && fill_ >= 64) {  // the line that begins before `out`
      memcpy(line_ + skip_, buffer_ + skip_, 64 - skip_);
      skip_ = 0;
      done = 64;
    }
    if (skip_ || fill_ < 64) return;
    const std::size_t n_lines = (fill_ - done) / 64;
    leaf::stream_lines(buffer_ + done, n_lines, line_ + done);
    done += 64 * n_lines;
    line_ += done;
    fill_ -= done;
    memcpy(buffer_, buffer_ + done, 64);  // what is left of a line, whatever its length
  }

 private:
  const bool stream_;
  std::size_t skip_, fill_;  // bytes of buffer_ that are not ours, and that are used
  std::uint8_t* line_;       // where buffer_ goes
  alignas(64) std::uint8_t buffer_[kPiece + 128];
};

#define SCRIMP_FETCHES inline __attribute__((always_inline))  // a call that only prefetches is pure to GCC 12, and dropped

// Fetches the kValues that lie `ahead` values ahead of x; the hardware alone stops at every page.
template <std::size_t kValues>
SCRIMP_FETCHES void prefetch_ahead(const float* x, std::size_t ahead = 1024) {
  for (std::size_t i = 0; i < kValues; i += 16) __builtin_prefetch(x + ahead + i);
}

SCRIMP_FETCHES void prefetch_bytes(const std::uint8_t* at, std::size_t nbytes) {
  for (std::size_t i = 0; i < nbytes; i += 64) __builtin_prefetch(at + i);
}

}  // namespace
}  // namespace scrimp
