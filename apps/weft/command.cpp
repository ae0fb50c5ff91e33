#include "weft/apps/weft/command.h"

#include <CLI/CLI.hpp>

#include "weft/kernels/parallel.h"

namespace weft::app {

void add_threads(CLI::App& command, int& threads) {
  command.add_option("--threads", threads, "threads [the cores that the process may use]")
      ->check(CLI::Range(1, 256));
}

void use_threads(int threads) {
  if (threads > 0) set_num_threads(threads);
}

}  // namespace weft::app
