#pragma once
// raw: fp32 as it is, bit for bit. (Python's `raw` keeps other dtypes too, without native code.)
#include "codecs/float_bits.h"
#include "codecs/options.h"

namespace scrimp {
namespace {

struct Raw {
  static constexpr const char* kName = "raw";
  using Stored = float;
  static SCRIMP_HD Stored encode(float x, const CodecOptions&) { return x; }
  static SCRIMP_HD float decode(Stored s, const CodecOptions&) { return s; }
  static SCRIMP_HD double bound(float, const CodecOptions&) { return 0; }
};

}  // namespace
}  // namespace scrimp
