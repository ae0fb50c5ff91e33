#include "weft/kernels/cuda/timing.h"

#include <algorithm>
#include <array>
#include <deque>

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

struct Timer::Impl {
  std::deque<Event> events;  // kept for later marks
  size_t marks = 0;
};

Timer::Timer() : impl_(std::make_unique<Impl>()) {}
Timer::~Timer() = default;

void Timer::mark() {
  Impl& t = *impl_;
  if (t.marks == t.events.size()) check(cudaEventCreate(&t.events.emplace_back().handle), "cudaEventCreate");
  check(cudaEventRecord(t.events[t.marks].handle, stream()), "cudaEventRecord");
  ++t.marks;
}

std::vector<double> Timer::seconds() {
  Impl& t = *impl_;
  std::vector<double> result;
  if (t.marks > 0) check(cudaEventSynchronize(t.events[t.marks - 1].handle), "cudaEventSynchronize");
  for (size_t i = 1; i < t.marks; ++i) {
    float milliseconds = 0;
    check(cudaEventElapsedTime(&milliseconds, t.events[i - 1].handle, t.events[i].handle),
          "cudaEventElapsedTime");
    result.push_back(double(milliseconds) * 1e-3);
  }
  t.marks = 0;
  return result;
}

}  // namespace weft::kernels::cuda
