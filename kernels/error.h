// The exception that all of weft's errors are.
#pragma once

#include <stdexcept>

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

}  // namespace weft
