// How long work on the stream takes.
#pragma once

#include <functional>

namespace weft::kernels::cuda {

/// The median time of run() in milliseconds: 5 times 4 calls after some that are not counted. It runs out of
/// a captured graph: launched one by one, short kernels would show the time that the CPU takes to launch
/// them.
float time_of(const std::function<void()>& run);

}  // namespace weft::kernels::cuda
