// How deep the brackets of a JSON text nest: its parser calls itself for each level, and a file must not be
// able to exhaust the stack.
#pragma once

#include <algorithm>
#include <string_view>

namespace weft {

/// The levels that weft reads; its own files have fewer than ten.
inline constexpr int kMaxNesting = 64;

/// The most brackets that are open at once in the JSON text; those in strings don't count.
inline int nesting(std::string_view json) {
  int open = 0, most = 0;
  bool in_string = false;
  for (size_t i = 0; i < json.size(); ++i) {
    const char c = json[i];
    if (in_string && c == '\\')
      ++i;
    else if (c == '"')
      in_string = !in_string;
    else if (!in_string && (c == '[' || c == '{'))
      most = std::max(most, ++open);
    else if (!in_string && (c == ']' || c == '}'))
      --open;
  }
  return most;
}

}  // namespace weft
