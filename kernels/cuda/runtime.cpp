// The stream, memory, uploads and captured steps: what kernels/cuda.h offers besides the table.
#include <algorithm>
#include <atomic>
#include <cstring>
#include <exception>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include "weft/kernels/cuda.h"
#include "weft/kernels/cuda/device.h"
#include "weft/kernels/cuda/memset_nodes.h"
#include "weft/kernels/cuda/uploader.h"

namespace weft::kernels::cuda {

void check(cudaError_t status, const char* name) {
  if (status == cudaSuccess) return;
  cudaGetLastError();  // else the next call would report it again
  throw Error(std::string(name) + ": " + cudaGetErrorString(status) + " (" + cudaGetErrorName(status) + ")");
}

namespace {

/// Pinned memory that uploads pass through, in a ring: a part is used again once the copy out of it is done.
class Staging {
 public:
  /// `parts` of `bytes` each, or more where an upload is larger.
  Staging(size_t parts, int64_t bytes) : parts_(parts), bytes_(bytes) {}

  /// Pinned memory for `bytes`; waits only where all parts are still being read.
  void* take(int64_t bytes) {
    if (!slab_) make();
    Part& part = parts_[next_];
    if (part.used && cudaEventQuery(part.done) != cudaSuccess) {
      cudaGetLastError();  // "not ready" is none
      check(cudaEventSynchronize(part.done), "cudaEventSynchronize");
    }
    if (part.bytes < bytes) {
      void* const before = std::exchange(part.memory, nullptr);
      if (part.own) check(cudaFreeHost(before), "cudaFreeHost");
      part.bytes = 0;
      part.own = true;
      check(cudaMallocHost(&part.memory, size_t(bytes)), "cudaMallocHost");
      part.bytes = bytes;
    }
    return part.memory;
  }
  /// The copy out of what take() gave has been asked for.
  void passed(cudaStream_t stream) {
    check(cudaEventRecord(parts_[next_].done, stream), "cudaEventRecord");
    parts_[next_].used = true;
    next_ = (next_ + 1) % parts_.size();
  }

 private:
  struct Part {
    void* memory = nullptr;
    int64_t bytes = 0;
    cudaEvent_t done = nullptr;
    bool used = false, own = false;  // not of the slab
  };

  // In one piece, because the device may come to a halt for each allocation of pinned memory.
  void make() {
    for (Part& part : parts_)
      if (!part.done)
        check(cudaEventCreateWithFlags(&part.done, cudaEventDisableTiming), "cudaEventCreateWithFlags");
    check(cudaMallocHost(&slab_, parts_.size() * size_t(bytes_)), "cudaMallocHost");
    for (size_t i = 0; i < parts_.size(); ++i) {
      parts_[i].memory = static_cast<char*>(slab_) + int64_t(i) * bytes_;
      parts_[i].bytes = bytes_;
    }
  }

  std::vector<Part> parts_;
  const int64_t bytes_;
  void* slab_ = nullptr;
  size_t next_ = 0;
};

constexpr int64_t kEnds = 16;
constexpr int64_t kSmallUpload = int64_t{64} << 10;
constexpr int64_t kStagingLimit = int64_t{4} << 20;  // larger uploads go in pieces

/// A stream, and memory that its work alone uses.
struct Lane {
  cudaStream_t stream = nullptr;
  void* scratch = nullptr;
  int64_t scratch_bytes = 0;
};

struct Runtime {
  int device = 0;
  Lane lanes[kLanes];
  int lane = 0;         // that work goes to
  cudaStream_t stream;  // of the first, in which all else waits for its turn
  int multiprocessors = 0;
  bool early = false, together = false;
  // The uploads of an eager step wait for a whole turn of the ring. They must be fewer than its parts by far,
  // or the GPU would have to end its step before the CPU can prepare the next one.
  Staging small{64, kSmallUpload}, large{4, kStagingLimit};
  Graph::Impl* recording = nullptr;  // the capture under way
  std::atomic<int64_t> asked = 0;    // for a stream to give work to
  // Work beside: what was started, what the first lane waits for; the ends of the latest.
  int64_t started = 0, awaited = 0;
  cudaEvent_t fork = nullptr, ends[kEnds] = {};

  Staging& staging(int64_t bytes) { return bytes <= kSmallUpload ? small : large; }
};

int wanted_device = 0;
std::atomic<void (*)()> reclaim{nullptr};
std::mutex making;
// Never destroyed: at the end of the process CUDA may be gone before it.
std::atomic<Runtime*> made_runtime{nullptr};

Runtime& make_runtime() {
  const std::lock_guard lock(making);
  if (Runtime* const made = made_runtime) return *made;
  std::string why;
  if (device_count(&why) == 0) throw Error("no GPU can be used: " + why);
  auto made = std::make_unique<Runtime>();
  made->device = wanted_device;
  check(cudaSetDevice(made->device), "cudaSetDevice");
  int least = 0, greatest = 0;  // what runs beside shall not hold up what others wait for
  check(cudaDeviceGetStreamPriorityRange(&least, &greatest), "cudaDeviceGetStreamPriorityRange");
  for (int lane = 0; lane < kLanes; ++lane)
    check(cudaStreamCreateWithPriority(&made->lanes[lane].stream, cudaStreamNonBlocking,
                                       lane == 0 ? greatest : least),
          "cudaStreamCreateWithPriority");
  made->stream = made->lanes[0].stream;
  check(cudaEventCreateWithFlags(&made->fork, cudaEventDisableTiming), "cudaEventCreateWithFlags");
  for (cudaEvent_t& end : made->ends)
    check(cudaEventCreateWithFlags(&end, cudaEventDisableTiming), "cudaEventCreateWithFlags");
  check(cudaDeviceGetAttribute(&made->multiprocessors, cudaDevAttrMultiProcessorCount, made->device),
        "cudaDeviceGetAttribute");
  int major = 0;
  check(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, made->device),
        "cudaDeviceGetAttribute");
  made->early = major >= 9 && waits_for_earlier();
  int shared = 0;
#if !defined(CUDART_VERSION) || CUDART_VERSION >= 12030  // older ones can't tell, nor can older drivers
  if (cudaDeviceGetAttribute(&shared, cudaDevAttrMpsEnabled, made->device) != cudaSuccess)
    (void)cudaGetLastError();
#endif
  made->together = made->early && shared != 1;
  made_runtime = made.get();
  return *made.release();
}

Runtime& runtime() {
  Runtime* const made = made_runtime;
  Runtime& r = made ? *made : make_runtime();
  thread_local bool chosen = false;  // CUDA keeps the device in use for each thread
  if (!chosen) {
    check(cudaSetDevice(r.device), "cudaSetDevice");
    chosen = true;
  }
  return r;
}

void upload_from(const void* from, void* to, int64_t bytes) {
  Runtime& r = runtime();
  ++r.asked;
  check(cudaMemcpyAsync(to, from, size_t(bytes), cudaMemcpyHostToDevice, r.stream), "cudaMemcpyAsync");
  r.staging(bytes).passed(r.stream);
}

}  // namespace

// --- the device ---

int device_count(std::string* why) {
  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  if (status == cudaSuccess && count > 0) return count;
  cudaGetLastError();
  if (why)
    *why =
        status == cudaErrorInsufficientDriver || status == cudaErrorNoDevice || status == cudaSuccess
            ? std::string("there is no CUDA device, or no driver for it (") + cudaGetErrorName(status) + ")"
            : std::string(cudaGetErrorString(status)) + " (" + cudaGetErrorName(status) + ")";
  return 0;
}

DeviceInfo device_info() {
  cudaDeviceProp p{};
  check(cudaGetDeviceProperties(&p, runtime().device), "cudaGetDeviceProperties");
  return {.name = p.name,
          .major = p.major,
          .minor = p.minor,
          .multiprocessors = p.multiProcessorCount,
          .memory_bytes = int64_t(p.totalGlobalMem),
          .l2_bytes = int64_t(p.l2CacheSize)};
}

void use_device(int index) {
  const Runtime* const r = made_runtime;
  if (r && r->device != index)
    throw Error("use_device: the GPU of number " + std::to_string(r->device) +
                " is in use already; choose before");
  wanted_device = index;
}

cudaStream_t stream_for_event() {
  const Runtime& r = runtime();
  return r.lanes[r.lane].stream;
}
cudaStream_t stream() {
  ++runtime().asked;
  return stream_for_event();
}
int64_t work_count() { return runtime().asked; }
int lane() { return runtime().lane; }
FirstLane::FirstLane() : before_(std::exchange(runtime().lane, 0)) {}
FirstLane::~FirstLane() { runtime().lane = before_; }
int multiprocessors() { return runtime().multiprocessors; }
bool can_launch_early() { return runtime().early; }
bool can_launch_together() { return runtime().together; }
/// Before CUDA is asked, which would end the capture with an error of its own.
static void refuse_in_capture() {
  if (runtime().recording)
    throw Error(
        "a captured step can't wait for the GPU: the CPU may read nothing in it (item(), to_vector(), to the "
        "CPU)");
}
void synchronize() {
  refuse_in_capture();
  await_beside(runtime().started);
  check(cudaStreamSynchronize(stream()), "cudaStreamSynchronize");
}

// --- work beside ---

int64_t run_beside(const std::function<void()>& work) {
  Runtime& r = runtime();
  if (r.lane != 0) throw Error("run_beside: called by work that runs beside already");
  struct Turn {  // back to the first lane, also where work() throws
    Runtime& r;
    ~Turn() { r.lane = 0; }
  } const turn{r};
  check(cudaEventRecord(r.fork, r.stream), "cudaEventRecord");
  check(cudaStreamWaitEvent(r.lanes[1].stream, r.fork, 0), "cudaStreamWaitEvent");
  r.lane = 1;
  // Counted when there is an end to wait for: work() itself may wait for all that was started.
  const auto end = [&r] {
    check(cudaEventRecord(r.ends[(r.started + 1) % kEnds], r.lanes[1].stream), "cudaEventRecord");
    return ++r.started;
  };
  try {
    work();
  } catch (...) {
    try {
      await_beside(end());  // nobody gets a number to wait for, and its memory is used anew
    } catch (const Error&) {
      // The first error says why.
    }
    throw;
  }
  return end();
}

void await_beside(int64_t ticket) {
  Runtime& r = runtime();
  if (ticket <= r.awaited) return;
  // Its event may be that of later work by now: waiting for that is waiting for both.
  check(cudaStreamWaitEvent(r.stream, r.ends[ticket % kEnds], 0), "cudaStreamWaitEvent");
  r.awaited = ticket;
}

// --- memory ---

void* allocate(int64_t bytes) {
  runtime();
  void* memory = nullptr;
  const cudaError_t status = cudaMalloc(&memory, size_t(bytes));
  if (status == cudaErrorMemoryAllocation) {
    cudaGetLastError();
    return nullptr;
  }
  check(status, "cudaMalloc");
  return memory;
}

void set_reclaim(void (*function)()) { reclaim = function; }

void* allocate_own(int64_t bytes) {
  void* memory = allocate(bytes);
  if (memory || capturing()) return memory;  // within a capture nothing can be freed
  if (void (*const give_back)() = reclaim) give_back();
  return allocate(bytes);
}

void release(void* memory) noexcept {
  if (cudaFree(memory) != cudaSuccess) cudaGetLastError();
}

int64_t free_memory() {
  stream();  // chooses the device
  size_t free = 0, all = 0;
  check(cudaMemGetInfo(&free, &all), "cudaMemGetInfo");
  return int64_t(free);
}

// Grown by steps, never shrunk; what was smaller is kept, because captured steps and work under way may still
// use it.
void* scratch(int64_t bytes) {
  Lane& of = runtime().lanes[runtime().lane];
  if (bytes > of.scratch_bytes) {
    int64_t size = std::max<int64_t>(bytes + bytes / 2, int64_t{16} << 20);
    void* memory = allocate(size);
    if (!memory) memory = allocate_own(size = bytes);
    if (!memory)
      throw OutOfMemoryError("scratch: " + std::to_string(size) +
                             " bytes of the GPU could not be had; use a smaller batch or image size");
    of.scratch = memory;
    of.scratch_bytes = size;
  }
  return of.scratch;
}

void upload(void* to, const void* from, int64_t bytes) {
  Runtime& r = runtime();
  if (r.recording)
    throw Error(
        "upload: a captured step can't copy from the CPU, it would copy the same each time; see "
        "upload_each_step()");
  for (int64_t done = 0; done < bytes; done += kStagingLimit) {
    const int64_t size = std::min(bytes - done, kStagingLimit);
    void* staging = r.staging(size).take(size);
    std::memcpy(staging, static_cast<const char*>(from) + done, size_t(size));
    upload_from(staging, static_cast<char*>(to) + done, size);
  }
}

void download(void* to, const void* from, int64_t bytes) {
  refuse_in_capture();
  await_beside(runtime().started);  // it may be writing what is read
  check(cudaMemcpyAsync(to, from, size_t(bytes), cudaMemcpyDeviceToHost, stream()), "cudaMemcpyAsync");
  synchronize();
}

void copy(void* to, const void* from, int64_t bytes) {
  check(cudaMemcpyAsync(to, from, size_t(bytes), cudaMemcpyDeviceToDevice, stream()), "cudaMemcpyAsync");
}

void copy_rows(const void* from, int64_t from_step, void* to, int64_t to_step, int64_t width, int64_t rows) {
  if (width == 0 || rows == 0) return;
  constexpr int64_t kMaxStep = (int64_t{1} << 31) - 1;  // cudaDeviceProp::memPitch
  if (rows == 1 || std::max(from_step, to_step) > kMaxStep) {
    for (int64_t row = 0; row < rows; ++row)
      copy(static_cast<char*>(to) + row * to_step, static_cast<const char*>(from) + row * from_step, width);
    return;
  }
  check(cudaMemcpy2DAsync(to, size_t(to_step), from, size_t(from_step), size_t(width), size_t(rows),
                          cudaMemcpyDeviceToDevice, stream()),
        "cudaMemcpy2DAsync");
}

// --- captured steps ---

namespace {

struct Upload {
  void* to;
  int64_t bytes;
  std::function<void(void*)> write;

  void run() const {
    void* staging = runtime().staging(bytes).take(bytes);
    write(staging);
    upload_from(staging, to, bytes);
  }
};

}  // namespace

struct Graph::Impl {
  std::vector<Upload> uploads;
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t exec = nullptr;
  // All uploads go over in one copy, beside the step before; a kernel then takes them apart. The pieces come
  // first in it, the uploads follow.
  std::vector<Piece> pieces;
  std::vector<int64_t> places;  // of the uploads
  std::optional<Uploader> uploader;
  int64_t bytes = 0;  // of the copy

  /// To be called when all uploads are known.
  void plan_uploads() {
    constexpr int64_t kAlign = 256;
    const auto take = [this](int64_t size) {
      const int64_t place = bytes;
      bytes += (size + kAlign - 1) / kAlign * kAlign;
      return place;
    };
    size_t count = 0;
    for (const Upload& upload : uploads) count += size_t((upload.bytes + kPieceBytes - 1) / kPieceBytes);
    if (count == 0) return;
    take(int64_t(count * sizeof(Piece)));
    for (const Upload& upload : uploads) {
      places.push_back(take(upload.bytes));
      for (int64_t done = 0; done < upload.bytes; done += kPieceBytes)
        pieces.push_back({static_cast<char*>(upload.to) + done, places.back() + done,
                          std::min(upload.bytes - done, kPieceBytes)});
    }
    uploader.emplace(bytes);
  }
  void make_uploads() {
    if (!uploader) return;
    char* const staging = static_cast<char*>(uploader->staging());
    std::memcpy(staging, pieces.data(), pieces.size() * sizeof(Piece));
    for (size_t i = 0; i < uploads.size(); ++i)
      if (uploads[i].bytes > 0) uploads[i].write(staging + places[i]);
    uploader->start(bytes);
    scatter(uploader->receive(), int64_t(pieces.size()));
    uploader->done();
  }

  ~Impl() {
    if (exec) cudaGraphExecDestroy(exec);
    if (graph) cudaGraphDestroy(graph);
  }
};

Graph::Graph(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Graph::~Graph() {
  cudaStreamSynchronize(stream());  // its memory may be used anew from here on
}

void Graph::launch() {
  impl_->make_uploads();
  check(cudaGraphLaunch(impl_->exec, stream()), "cudaGraphLaunch");
}

int64_t Graph::nodes() const {
  size_t count = 0;
  check(cudaGraphGetNodes(impl_->graph, nullptr, &count), "cudaGraphGetNodes");
  return int64_t(count);
}

void upload_each_step(void* to, int64_t bytes, std::function<void(void*)> write) {
  Runtime& r = runtime();
  Upload upload{to, bytes, std::move(write)};
  if (r.recording)
    r.recording->uploads.push_back(std::move(upload));
  else if (bytes > 0)
    upload.run();
}

bool capturing() {
  const Runtime* const r = made_runtime;
  return r && r->recording;
}

std::unique_ptr<Graph> capture(const std::function<void()>& step) {
  Runtime& r = runtime();
  if (r.recording) throw Error("capture: one capture is under way already");
  auto impl = std::make_unique<Graph::Impl>();
  synchronize();
  // Relaxed: the memory pool may still have to grow.
  check(cudaStreamBeginCapture(r.stream, cudaStreamCaptureModeRelaxed), "cudaStreamBeginCapture");
  r.recording = impl.get();
  std::exception_ptr failure;
  try {
    step();
    await_beside(r.started);
  } catch (...) {
    failure = std::current_exception();
  }
  r.awaited = r.started;
  r.recording = nullptr;
  const cudaError_t ended = cudaStreamEndCapture(r.stream, &impl->graph);
  if (failure) {
    cudaGetLastError();
    std::rethrow_exception(failure);
  }
  check(ended, "cudaStreamEndCapture");
  replace_memsets(impl->graph, r.stream);
  // Or all nodes would run at the priority of the stream that the graph is launched into, those beside too.
  check(cudaGraphInstantiate(&impl->exec, impl->graph, cudaGraphInstantiateFlagUseNodePriority),
        "cudaGraphInstantiate");
  impl->plan_uploads();
  return std::make_unique<Graph>(std::move(impl));
}

}  // namespace weft::kernels::cuda
