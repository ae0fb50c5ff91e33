// One way to raise an Error.
#pragma once

#include <sstream>
#include <string>

#include "weft/kernels/error.h"

namespace weft {

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

/// " (in stem.0)" while the module of that path is called; else "". See ScopeName.
std::string in_scope();

/// Throws Error with the message concat(parts...) and, while a module is called, its path.
template <class... Parts>
[[noreturn]] void fail(const Parts&... parts) {
  throw Error(concat(parts...) + in_scope());
}

/// fail(parts...) unless `ok`. The message is put together only then.
template <class... Parts>
void check(bool ok, const Parts&... parts) {
  if (!ok) [[unlikely]]
    fail(parts...);
}

}  // namespace weft
