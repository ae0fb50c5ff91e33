// The exception that all of weft's errors are, and lists in their messages.
#pragma once

#include <stdexcept>
#include <string>
#include <string_view>

namespace weft {

/// Every error that weft raises: names the op, file or setting, what was expected, what came, and the mend.
/// (Beside it there is std::bad_alloc of the standard library.)
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// Memory could not be had; the engine stays usable.
class OutOfMemoryError : public Error {
 public:
  using Error::Error;
};

/// The names, with commas between them.
template <class Names>
std::string joined(const Names& names) {
  std::string all;
  for (std::string_view name : names) (all += all.empty() ? "" : ", ") += name;
  return all;
}

}  // namespace weft
