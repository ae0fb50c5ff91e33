#pragma once
// Streams, events and captures as they are inside.

#include <chrono>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <thread>
#include <vector>

#include "weft_emulator/host.h"

namespace weft_emulator {

using Work = std::function<void()>;
/// How many pieces of a capture's work in each stream come before some point.
using Reached = std::map<const CUstream_st*, uint64_t>;

struct Capture {
  std::vector<Work> nodes;
  CUstream_st* origin;
  cudaStreamCaptureMode mode;
  std::thread::id thread;
  bool valid = true;
  std::vector<CUstream_st*> streams;  // the origin and those that have joined it
};

/// What one cudaEventRecord made: later waits are for this, whatever the event records next.
struct Moment {
  CUstream_st* stream;
  bool passed = false;
  std::chrono::steady_clock::time_point time;
  std::shared_ptr<Capture> capture;
  Reached reached;
};

}  // namespace weft_emulator

struct CUstream_st {
  bool blocking = true;  // waits for the default stream, and it for this one
  std::deque<weft_emulator::Work> queue;
  std::shared_ptr<weft_emulator::Capture> capture;
  weft_emulator::Reached reached;
};
struct CUevent_st {
  bool timing = true;
  std::shared_ptr<weft_emulator::Moment> moment;
};
struct CUgraph_st {
  std::vector<weft_emulator::Work> nodes;
};
struct CUgraphExec_st {
  std::shared_ptr<const std::vector<weft_emulator::Work>> nodes;
};
