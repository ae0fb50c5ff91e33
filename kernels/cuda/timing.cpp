#include "weft/kernels/cuda/timing.h"

#include <algorithm>
#include <deque>

#include "weft/kernels/cuda/device.h"

namespace weft::kernels::cuda {
namespace {

constexpr int kRuns = 5, kCallsPerRun = 4;

/// Goes with the scope.
struct Event {
  cudaEvent_t handle = nullptr;
  Event() = default;
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  ~Event() {
    if (handle) cudaEventDestroy(handle);
  }
};

}  // namespace

bool can_measure() {
  cudaStreamCaptureStatus capture = cudaStreamCaptureStatusNone;
  check(cudaStreamIsCapturing(stream(), &capture), "cudaStreamIsCapturing");
  return conv_autotune() && !deterministic() && capture == cudaStreamCaptureStatusNone;
}

float time_of(const std::function<void()>& run) {
  run();  // loads kernels
  const auto graph = capture([&] {
    for (int i = 0; i < kCallsPerRun; ++i) run();
  });
  graph->launch();
  Timer timer;
  timer.mark();
  for (int i = 0; i < kRuns; ++i) {
    graph->launch();
    timer.mark();
  }
  std::vector<double> times = timer.seconds();
  std::nth_element(times.begin(), times.begin() + kRuns / 2, times.end());
  return float(times[kRuns / 2] * 1e3 / kCallsPerRun);
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
  check(cudaEventRecord(t.events[t.marks].handle, stream_for_event()), "cudaEventRecord");
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
