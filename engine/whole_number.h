// Whole numbers of a file's JSON. Not part of the public API.
#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <utility>

#include "weft/engine/error.h"

namespace weft {

/// The whole number from `least` to `most` that a JSON `value` (of nlohmann's) is. Throws Error beginning
/// with `what`, the name of the file and of the key, where it is none: the value's own get() would make one
/// of 2.9, and of 1e30 anything.
template <class T, class Json>
T whole_number(const Json& value, const std::string& what, T least = std::numeric_limits<T>::min(),
               T most = std::numeric_limits<T>::max()) {
  const auto in_range = [&](auto number) {
    return std::cmp_greater_equal(number, least) && std::cmp_less_equal(number, most);
  };
  const bool fits = value.is_number_unsigned()
                        ? in_range(value.template get<uint64_t>())
                        : value.is_number_integer() && in_range(value.template get<int64_t>());
  if (fits) return value.template get<T>();
  // Limits of the type alone help where they are passed, and only there.
  using Limits = std::numeric_limits<T>;
  const bool limited = value.is_number() || least != Limits::min() || most != Limits::max();
  fail(what, " is ", value.is_structured() ? "a list" : value.dump().substr(0, 80),
       ", expected a whole number", limited ? concat(" from ", least, " to ", most) : "");
}

}  // namespace weft
