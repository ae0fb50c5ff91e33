// Errors: one exception type, one way to raise it.
#pragma once

#include <sstream>
#include <stdexcept>
#include <string>

namespace weft {

/// Every error that weft raises: names the op or file, what was expected, what came, and the mend.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// Memory could not be had; the engine stays usable.
class OutOfMemoryError : public Error {
 public:
  using Error::Error;
};

/// What operator<< writes to a stream.
template <class T>
concept Printable = requires(std::ostream& out, const T& value) {
  out << value;
};

/// The parts, written one after the other with operator<<. Constrained, so that concat(tensors, dim) finds
/// the op.
template <Printable... Parts>
std::string concat(const Parts&... parts) {
  std::ostringstream out;
  (out << ... << parts);
  return out.str();
}

/// Throws Error with the message concat(parts...).
template <class... Parts>
[[noreturn]] void fail(const Parts&... parts) {
  throw Error(concat(parts...));
}

/// fail(parts...) unless `ok`. The message is put together only then.
template <class... Parts>
void check(bool ok, const Parts&... parts) {
  if (!ok) [[unlikely]]
    fail(parts...);
}

}  // namespace weft
