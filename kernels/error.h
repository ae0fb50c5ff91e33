// The exception that all of weft's errors are, and lists in their messages.
#pragma once

#include <functional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

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

/// "a, b, c", of what text(item), a text or a whole number, is for each item.
template <class Items, class Text = std::identity>
std::string joined(const Items& items, std::string_view between = ", ", const Text& text = {}) {
  std::string all;
  bool first = true;
  for (const auto& item : items) {
    if (!std::exchange(first, false)) all += between;
    const auto& word = std::invoke(text, item);
    if constexpr (std::is_arithmetic_v<std::remove_cvref_t<decltype(word)>>)
      all += std::to_string(word);
    else
      all += word;
  }
  return all;
}

}  // namespace weft
