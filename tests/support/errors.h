#pragma once

#include <doctest/doctest.h>

#include <functional>
#include <string>

#include "weft/engine/error.h"

/// The message of the weft::Error that f throws, or "(no error)".
inline std::string error_of(const std::function<void()>& f) {
  try {
    f();
  } catch (const weft::Error& e) {
    return e.what();
  }
  return "(no error)";
}
inline bool mentions(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

/// The expression throws weft::Error with `part` in its message.
#define CHECK_ERROR(expression, part)                \
  do {                                               \
    std::string message_ = "(no error)";             \
    try {                                            \
      static_cast<void>(expression);                 \
    } catch (const weft::Error& e) {                 \
      message_ = e.what();                           \
    }                                                \
    INFO("message: ", message_);                     \
    CHECK(message_.find(part) != std::string::npos); \
  } while (false)
