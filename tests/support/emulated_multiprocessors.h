// For tests of kernels that share their work out by the number of multiprocessors.
#pragma once

#if WEFT_EMULATED
#include "weft_emulator.h"
#endif

namespace weft::test {

/// Gives the emulated device so many multiprocessors, four otherwise; a real one keeps its own. To be called
/// before the first use of CUDA, so to initialise a variable of the program.
inline bool emulate_multiprocessors([[maybe_unused]] int count) {
#if WEFT_EMULATED
  weft_emulator::properties().multiProcessorCount = count;
#endif
  return true;
}

}  // namespace weft::test
