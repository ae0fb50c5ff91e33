// What tests of the CUDA kernels run on: an emulated device or a real one.
#pragma once

#include <cstdlib>
#include <string>

namespace weft::test {

/// Whether a real GPU is meant (WEFT_TEST_DEVICE=gpu), as for the tests whose names end in _gpu.
inline bool on_gpu() {
  const char* device = std::getenv("WEFT_TEST_DEVICE");
  return device && std::string(device) == "gpu";
}

/// Gives the emulated device so many multiprocessors, four otherwise; a real one keeps its own. To be called
/// before the first use of CUDA, so to initialise a variable of the program.
inline bool emulate_multiprocessors(int count) {
  return setenv("WEFT_EMULATOR_MULTIPROCESSORS", std::to_string(count).c_str(), 1) == 0;
}

}  // namespace weft::test
