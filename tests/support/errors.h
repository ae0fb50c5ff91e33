#pragma once

#include <doctest/doctest.h>

#include <string>

#include "weft/engine/error.h"

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
