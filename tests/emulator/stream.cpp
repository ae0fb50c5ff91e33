// Streams and events: work is done at once or, deferred, when somebody waits for it; capture into graphs.

#include "stream.h"

#include <algorithm>
#include <memory>
#include <unordered_map>
#include <utility>

#include "device.h"

namespace weft_emulator {
namespace {

template <class T>
using Owned = std::unordered_map<T*, std::unique_ptr<T>>;
Owned<CUstream_st> streams;
Owned<CUevent_st> events;
Owned<CUgraph_st> graphs;
Owned<CUgraphExec_st> executables;
CUstream_st default_stream;
thread_local cudaStreamCaptureMode thread_mode = cudaStreamCaptureModeGlobal;

template <class T, class... Arguments>
T* make(Owned<T>& owned, Arguments&&... arguments) {
  auto thing = std::make_unique<T>(T{std::forward<Arguments>(arguments)...});
  T* const address = thing.get();
  owned[address] = std::move(thing);
  return address;
}

/// Null if there is no such stream.
CUstream_st* find(cudaStream_t stream) {
  if (!stream || stream == cudaStreamLegacy) return &default_stream;
  return streams.contains(stream) ? stream : nullptr;
}

template <class Visit>
void each_stream(Visit&& visit) {
  visit(default_stream);
  for (auto& [address, stream] : streams) visit(*stream);
}

void do_next(CUstream_st& stream) {
  const Work work = std::move(stream.queue.front());
  stream.queue.pop_front();
  const DeviceAtWork access;
  work();
}

void drain(CUstream_st& stream) {
  if (stream.queue.empty()) return;
  const DeviceAtWork access;  // once for all
  while (!stream.queue.empty()) do_next(stream);
}

void drain_all() { each_stream(drain); }

/// The default stream waits for the blocking ones, and they for it.
void drain_before(CUstream_st& stream) {
  if (&stream != &default_stream) {
    if (stream.blocking) drain(default_stream);
    return;
  }
  for (auto& [address, other] : streams)
    if (other->blocking) drain(*other);
}

void reach(Moment& moment) {
  while (!moment.passed) do_next(*moment.stream);
}

void end_capture(Capture& capture) {
  for (CUstream_st* stream : std::exchange(capture.streams, {})) {
    stream->capture = nullptr;
    stream->reached.clear();
  }
}

cudaError_t refuse(Capture& capture, cudaError_t error) {
  capture.valid = false;
  return error;
}

}  // namespace

bool capturing(cudaStream_t stream) {
  const CUstream_st* const found = find(stream);
  return found && found->capture;
}

void invalidate(cudaStream_t stream) { find(stream)->capture->valid = false; }

cudaError_t uses_default_stream() {
  for (auto& [address, stream] : streams)
    if (stream->capture && stream->blocking) return refuse(*stream->capture, cudaErrorStreamCaptureImplicit);
  return cudaSuccess;
}

cudaError_t unsafe_in_capture() {
  if (thread_mode == cudaStreamCaptureModeRelaxed) return cudaSuccess;
  cudaError_t error = cudaSuccess;
  for (auto& [address, stream] : streams) {
    if (!stream->capture || stream->capture->mode == cudaStreamCaptureModeRelaxed) continue;
    const bool own = stream->capture->thread == std::this_thread::get_id();
    const bool global =
        stream->capture->mode == cudaStreamCaptureModeGlobal && thread_mode == cudaStreamCaptureModeGlobal;
    if (own || global) error = refuse(*stream->capture, cudaErrorStreamCaptureUnsupported);
  }
  return error;
}

cudaError_t submit(cudaStream_t stream, Work work) {
  CUstream_st* const found = find(stream);
  if (!found) return cudaErrorInvalidResourceHandle;
  if (found->capture) {
    if (!found->capture->valid) return cudaErrorStreamCaptureInvalidated;
    found->capture->nodes.push_back(std::move(work));
    ++found->reached[found];
    return cudaSuccess;
  }
  if (found == &default_stream)
    if (const cudaError_t error = uses_default_stream()) return error;
  drain_before(*found);
  if (Device::get().deferred) {
    found->queue.push_back(std::move(work));
  } else {
    const DeviceAtWork access;
    work();
  }
  return cudaSuccess;
}

cudaError_t synchronize(cudaStream_t stream) {
  CUstream_st* const found = find(stream);
  if (!found) return cudaErrorInvalidResourceHandle;
  if (found->capture) return refuse(*found->capture, cudaErrorStreamCaptureUnsupported);
  if (found == &default_stream)
    if (const cudaError_t error = uses_default_stream()) return error;
  ++Device::get().stats.host_syncs;
  drain_before(*found);
  drain(*found);
  return cudaSuccess;
}

cudaError_t synchronize_device() {
  for (auto& [address, stream] : streams)
    if (stream->capture) return refuse(*stream->capture, cudaErrorStreamCaptureUnsupported);
  ++Device::get().stats.host_syncs;
  drain_all();
  return cudaSuccess;
}

void set_deferred(bool deferred) {
  const Call call;
  drain_all();
  Device::get().deferred = deferred;
}

}  // namespace weft_emulator

using namespace weft_emulator;

cudaError_t cudaDeviceSynchronize() {
  WEFT_EMULATOR_CALL;
  return done(synchronize_device());
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
  WEFT_EMULATOR_CALL;
  if (!stream || flags > cudaStreamNonBlocking) return done(cudaErrorInvalidValue);
  *stream = make(streams);
  (*stream)->blocking = flags == cudaStreamDefault;
  return cudaSuccess;
}

cudaError_t cudaStreamCreate(cudaStream_t* stream) {
  return cudaStreamCreateWithFlags(stream, cudaStreamDefault);
}

cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned flags, int) {
  return cudaStreamCreateWithFlags(stream, flags);
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  WEFT_EMULATOR_CALL;
  CUstream_st* const found = find(stream);
  if (!found || found == &default_stream) return done(cudaErrorInvalidResourceHandle);
  if (found->capture) return done(refuse(*found->capture, cudaErrorStreamCaptureUnsupported));
  drain(*found);  // a device would do the rest on its own
  streams.erase(found);
  return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  WEFT_EMULATOR_CALL;
  return done(synchronize(stream));
}

cudaError_t cudaStreamQuery(cudaStream_t stream) {
  WEFT_EMULATOR_CALL;
  CUstream_st* const found = find(stream);
  if (!found) return done(cudaErrorInvalidResourceHandle);
  if (found->capture) return done(refuse(*found->capture, cudaErrorStreamCaptureUnsupported));
  if (found->queue.empty()) return cudaSuccess;
  do_next(*found);  // so that asking again and again comes to an end
  return done(cudaErrorNotReady);
}

cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t function, void* data) {
  WEFT_EMULATOR_CALL;
  if (!function) return done(cudaErrorInvalidValue);
  return done(submit(stream, [=] {
    ++Device::get().stats.host_functions;
    function(data);
  }));
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags) {
  WEFT_EMULATOR_CALL;
  if (!event) return done(cudaErrorInvalidValue);
  *event = make(events);
  (*event)->timing = !(flags & cudaEventDisableTiming);
  return cudaSuccess;
}

cudaError_t cudaEventCreate(cudaEvent_t* event) { return cudaEventCreateWithFlags(event, cudaEventDefault); }

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  WEFT_EMULATOR_CALL;
  return done(events.erase(event) ? cudaSuccess : cudaErrorInvalidResourceHandle);
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  WEFT_EMULATOR_CALL;
  CUstream_st* const found = find(stream);
  if (!found || !events.contains(event)) return done(cudaErrorInvalidResourceHandle);
  auto moment = std::make_shared<Moment>();
  moment->stream = found;
  if (found->capture) {
    if (!found->capture->valid) return done(cudaErrorStreamCaptureInvalidated);
    moment->capture = found->capture;
    moment->reached = found->reached;
  } else {
    const auto pass = [moment] {
      moment->passed = true;
      moment->time = std::chrono::steady_clock::now();
    };
    if (const cudaError_t error = submit(stream, pass)) return done(error);
  }
  event->moment = std::move(moment);
  return cudaSuccess;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  WEFT_EMULATOR_CALL;
  CUstream_st* const found = find(stream);
  if (!found || !events.contains(event)) return done(cudaErrorInvalidResourceHandle);
  const std::shared_ptr<Moment> moment = event->moment;
  if (!found->capture) {
    if (!moment) return cudaSuccess;
    if (!moment->capture) return done(submit(stream, [moment] { reach(*moment); }));
    // A fork: the stream joins the capture.
    if (moment->capture->streams.empty()) return done(cudaErrorCapturedEvent);
    if (!moment->capture->valid) return done(cudaErrorStreamCaptureInvalidated);
    if (found == &default_stream) return done(refuse(*moment->capture, cudaErrorStreamCaptureImplicit));
    found->capture = moment->capture;
    found->capture->streams.push_back(found);
  }
  if (!found->capture->valid) return done(cudaErrorStreamCaptureInvalidated);
  if (!moment || !moment->capture) return done(refuse(*found->capture, cudaErrorStreamCaptureIsolation));
  if (moment->capture != found->capture) return done(refuse(*found->capture, cudaErrorStreamCaptureMerge));
  for (const auto& [other, count] : moment->reached)
    found->reached[other] = std::max(found->reached[other], count);
  return cudaSuccess;
}

namespace {

/// Errors of asking whether an event has passed.
cudaError_t check_event(cudaEvent_t event) {
  if (!events.contains(event)) return cudaErrorInvalidResourceHandle;
  if (const cudaError_t error = unsafe_in_capture()) return error;
  if (event->moment && event->moment->capture) return refuse(*event->moment->capture, cudaErrorCapturedEvent);
  return cudaSuccess;
}

}  // namespace

cudaError_t cudaEventQuery(cudaEvent_t event) {
  WEFT_EMULATOR_CALL;
  if (const cudaError_t error = check_event(event)) return done(error);
  if (!event->moment || event->moment->passed) return cudaSuccess;
  do_next(*event->moment->stream);
  return done(cudaErrorNotReady);
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  WEFT_EMULATOR_CALL;
  if (const cudaError_t error = check_event(event)) return done(error);
  ++Device::get().stats.host_syncs;
  if (event->moment) reach(*event->moment);
  return cudaSuccess;
}

cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t start, cudaEvent_t end) {
  WEFT_EMULATOR_CALL;
  if (const cudaError_t error = check_event(start)) return done(error);
  if (const cudaError_t error = check_event(end)) return done(error);
  if (!start->timing || !end->timing || !start->moment || !end->moment)
    return done(cudaErrorInvalidResourceHandle);
  if (!start->moment->passed || !end->moment->passed) return done(cudaErrorNotReady);
  *milliseconds = std::chrono::duration<float, std::milli>(end->moment->time - start->moment->time).count();
  return cudaSuccess;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode) {
  WEFT_EMULATOR_CALL;
  CUstream_st* const found = find(stream);
  if (!found) return done(cudaErrorInvalidResourceHandle);
  if (found == &default_stream) return done(cudaErrorStreamCaptureUnsupported);
  if (found->capture) return done(cudaErrorIllegalState);
  found->capture = std::make_shared<Capture>();
  found->capture->origin = found;
  found->capture->mode = mode;
  found->capture->thread = std::this_thread::get_id();
  found->capture->streams = {found};
  return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  WEFT_EMULATOR_CALL;
  CUstream_st* const found = find(stream);
  if (!found || !graph) return done(cudaErrorInvalidValue);
  *graph = nullptr;
  const std::shared_ptr<Capture> capture = found->capture;
  if (!capture) return done(cudaErrorIllegalState);
  if (capture->mode != cudaStreamCaptureModeRelaxed && capture->thread != std::this_thread::get_id())
    return done(cudaErrorStreamCaptureWrongThread);
  if (capture->origin != found) return done(refuse(*capture, cudaErrorStreamCaptureUnmatched));
  const bool joined = std::all_of(capture->streams.begin(), capture->streams.end(), [&](CUstream_st* other) {
    return found->reached[other] >= other->reached[other];
  });
  end_capture(*capture);
  if (!capture->valid) return done(cudaErrorStreamCaptureInvalidated);
  if (!joined) return done(cudaErrorStreamCaptureUnjoined);
  *graph = make(graphs, std::move(capture->nodes));
  return cudaSuccess;
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status) {
  WEFT_EMULATOR_CALL;
  CUstream_st* const found = find(stream);
  if (!found || !status) return done(cudaErrorInvalidValue);
  if (found == &default_stream)
    if (const cudaError_t error = uses_default_stream()) return done(error);
  *status = !found->capture         ? cudaStreamCaptureStatusNone
            : found->capture->valid ? cudaStreamCaptureStatusActive
                                    : cudaStreamCaptureStatusInvalidated;
  return cudaSuccess;
}

cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode* mode) {
  std::swap(*mode, thread_mode);
  return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph, unsigned long long flags) {
  WEFT_EMULATOR_CALL;
  if (!executable || !graphs.contains(graph) || (flags & ~cudaGraphInstantiateFlagUseNodePriority))
    return done(cudaErrorInvalidValue);
  *executable = make(executables, std::make_shared<const std::vector<Work>>(graph->nodes));
  return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream) {
  WEFT_EMULATOR_CALL;
  if (!executables.contains(executable)) return done(cudaErrorInvalidValue);
  ++Device::get().stats.graph_launches;
  return done(submit(stream, [nodes = executable->nodes] {
    for (const Work& node : *nodes) node();
  }));
}

cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t* nodes, size_t* count) {
  WEFT_EMULATOR_CALL;
  if (!graphs.contains(graph) || !count) return done(cudaErrorInvalidValue);
  if (nodes) {  // addresses that tell them apart, and nothing more
    for (size_t i = 0; i < *count; ++i)
      nodes[i] = i < graph->nodes.size() ? reinterpret_cast<cudaGraphNode_t>(&graph->nodes[i]) : nullptr;
    *count = std::min(*count, graph->nodes.size());
  } else {
    *count = graph->nodes.size();
  }
  return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  WEFT_EMULATOR_CALL;
  return done(graphs.erase(graph) ? cudaSuccess : cudaErrorInvalidValue);
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
  WEFT_EMULATOR_CALL;
  return done(executables.erase(executable) ? cudaSuccess : cudaErrorInvalidValue);
}
