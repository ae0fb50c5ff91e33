// How long work on the stream takes. Plain C++.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "weft/kernels/cuda.h"

namespace weft::kernels::cuda {

/// Whether algorithms can be measured now: where conv_autotune(), not where the choice may not differ from
/// run to run (deterministic()), and not in a capture.
bool can_measure();

struct Release {
  void operator()(void* memory) const { release(memory); }
};
/// Memory of allocate() for what is measured; null where it couldn't be had.
using Memory = std::unique_ptr<void, Release>;

/// The median time of run() in milliseconds: 5 times 4 calls after some that are not counted. It runs out of
/// a captured graph: launched one by one, short kernels would show the time that the CPU takes to launch
/// them.
float time_of(const std::function<void()>& run);

/// Measures stretches of the stream's work, on the device's clock. Not for use within a capture.
class Timer {
 public:
  Timer();
  ~Timer();
  Timer(const Timer&) = delete;
  Timer& operator=(const Timer&) = delete;

  /// Here, in the order of the work, one stretch ends and the next begins.
  void mark();
  /// Waits for the last mark. The seconds from each mark to the next one; forgets the marks.
  std::vector<double> seconds();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace weft::kernels::cuda
