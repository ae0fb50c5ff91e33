#include "weft/kernels/cuda/timing.h"

#include <algorithm>
#include <array>

#include "weft/kernels/cuda/device.h"

namespace weft::kernels::cuda {
namespace {

constexpr int kRuns = 5, kCallsPerRun = 4;

/// Things of CUDA that go with the scope.
template <class Handle, cudaError_t (*Destroy)(Handle)>
struct Owned {
  Handle handle = nullptr;
  Owned() = default;
  Owned(const Owned&) = delete;
  Owned& operator=(const Owned&) = delete;
  ~Owned() {
    if (handle) Destroy(handle);
  }
};
using Event = Owned<cudaEvent_t, cudaEventDestroy>;

}  // namespace

float time_of(const std::function<void()>& run) {
  run();  // loads kernels
  synchronize();
  Owned<cudaGraph_t, cudaGraphDestroy> graph;
  Owned<cudaGraphExec_t, cudaGraphExecDestroy> exec;
  check(cudaStreamBeginCapture(stream(), cudaStreamCaptureModeRelaxed), "cudaStreamBeginCapture");
  try {
    for (int i = 0; i < kCallsPerRun; ++i) run();
  } catch (...) {
    cudaStreamEndCapture(stream(), &graph.handle);
    cudaGetLastError();
    throw;
  }
  check(cudaStreamEndCapture(stream(), &graph.handle), "cudaStreamEndCapture");
  check(cudaGraphInstantiate(&exec.handle, graph.handle, 0), "cudaGraphInstantiate");
  check(cudaGraphLaunch(exec.handle, stream()), "cudaGraphLaunch");

  std::array<Event, kRuns + 1> events;
  for (Event& e : events) check(cudaEventCreate(&e.handle), "cudaEventCreate");
  check(cudaEventRecord(events[0].handle, stream()), "cudaEventRecord");
  for (size_t i = 1; i < events.size(); ++i) {
    check(cudaGraphLaunch(exec.handle, stream()), "cudaGraphLaunch");
    check(cudaEventRecord(events[i].handle, stream()), "cudaEventRecord");
  }
  synchronize();
  std::array<float, kRuns> times{};
  for (size_t i = 0; i < times.size(); ++i)
    check(cudaEventElapsedTime(&times[i], events[i].handle, events[i + 1].handle), "cudaEventElapsedTime");
  std::nth_element(times.begin(), times.begin() + kRuns / 2, times.end());
  return times[kRuns / 2] / kCallsPerRun;
}

}  // namespace weft::kernels::cuda
