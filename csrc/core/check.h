#pragma once
// Errors of the native core. Not for files compiled per ISA: it holds std templates.
#include <sstream>
#include <stdexcept>
#include <string>

namespace scrimp {

// Throws std::invalid_argument (ValueError in Python) whose message is the streamed parts.
template <class... Parts>
inline void require(bool ok, const Parts&... parts) {
  if (ok) return;
  std::ostringstream message;
  (message << ... << parts);
  throw std::invalid_argument(message.str());
}

}  // namespace scrimp
