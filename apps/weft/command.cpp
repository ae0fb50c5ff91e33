#include "weft/apps/weft/command.h"

#include <CLI/CLI.hpp>

#include "weft/kernels/parallel.h"

namespace weft::app {

void add_device(CLI::App& command, std::string& device, std::string& precision) {
  command.add_option("--device", device, "cpu, or cuda[:i] for the NVIDIA GPU of that number")
      ->capture_default_str();
  command.add_option("--precision", precision, "fp32; on a GPU also bf16 or fp16")
      ->check(CLI::IsMember({"fp32", "bf16", "fp16"}))
      ->capture_default_str();
}

void add_threads(CLI::App& command, int& threads) {
  command.add_option("--threads", threads, "threads [the cores that the process may use]")
      ->check(CLI::Range(1, 256));
}

void use_threads(int threads) {
  if (threads > 0) set_num_threads(threads);
}

}  // namespace weft::app
