// Running another program, without a shell.
#pragma once

#include <string>
#include <vector>

namespace weft::app {

/// Runs `arguments` (the first is the program, looked up in PATH) with our standard streams and waits for its
/// end. Returns its exit code; 128 + n where signal n ended it. Throws Error where it cannot be started.
int run_process(const std::vector<std::string>& arguments);

}  // namespace weft::app
