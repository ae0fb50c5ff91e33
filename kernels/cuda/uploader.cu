#include "weft/kernels/cuda/uploader.h"

#include <utility>

#include "weft/kernels/cuda.h"
#include "weft/kernels/cuda/wide.h"

namespace weft::kernels::cuda {
namespace {

constexpr int kBlock = 256;

__global__ void __launch_bounds__(kBlock) scatter_kernel(const char* memory) {
  const Piece piece = reinterpret_cast<const Piece*>(memory)[blockIdx.x];
  const char* from = memory + piece.from;
  char* to = static_cast<char*>(piece.to);
  const int bytes = int(piece.bytes);
  const bool wide = (reinterpret_cast<uintptr_t>(from) | reinterpret_cast<uintptr_t>(to)) % 16 == 0;
  const int packed = wide ? bytes / 16 * 16 : 0;
  for (int i = int(threadIdx.x) * 16; i < packed; i += kBlock * 16) store(to + i, load<16>(from + i));
  for (int i = packed + int(threadIdx.x); i < bytes; i += kBlock) to[i] = from[i];
}

}  // namespace

struct Uploader::Impl {
  struct Place {
    void *pinned = nullptr, *device = nullptr;
    cudaEvent_t copied = nullptr, used = nullptr;
  };
  Place places[2];
  cudaStream_t copies = nullptr;
  int written = 0, read = 0;  // the places of the next start() and receive()
  int received = 0;

  void open(int64_t bytes) {
    stream();  // chooses the device
    check(cudaStreamCreateWithFlags(&copies, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
    for (Place& p : places) {
      check(cudaHostAlloc(&p.pinned, size_t(bytes), cudaHostAllocDefault), "cudaHostAlloc");
      p.device = allocate_own(bytes);
      check(p.device ? cudaSuccess : cudaErrorMemoryAllocation, "memory for what is on its way to the GPU");
      check(cudaEventCreateWithFlags(&p.copied, cudaEventDisableTiming), "cudaEventCreateWithFlags");
      check(cudaEventCreateWithFlags(&p.used, cudaEventDisableTiming), "cudaEventCreateWithFlags");
    }
  }
  ~Impl() {
    if (copies) cudaStreamSynchronize(copies);  // nothing is on its way to memory that is released
    for (Place& p : places) {
      if (p.copied) cudaEventDestroy(p.copied);
      if (p.used) cudaEventDestroy(p.used);
      if (p.device) release(p.device);
      if (p.pinned) cudaFreeHost(p.pinned);
    }
    if (copies) cudaStreamDestroy(copies);
  }
};

Uploader::Uploader(int64_t bytes) : impl_(std::make_unique<Impl>()) { impl_->open(bytes); }
Uploader::~Uploader() = default;

// An event that was never recorded counts as done.

void* Uploader::staging() {
  Impl::Place& p = impl_->places[impl_->written];
  if (cudaEventQuery(p.copied) != cudaSuccess) {
    cudaGetLastError();  // "not ready" is none
    check(cudaEventSynchronize(p.copied), "cudaEventSynchronize");
  }
  return p.pinned;
}

void Uploader::start(int64_t bytes) {
  Impl::Place& p = impl_->places[impl_->written];
  check(cudaStreamWaitEvent(impl_->copies, p.used, 0), "cudaStreamWaitEvent");
  check(cudaMemcpyAsync(p.device, p.pinned, size_t(bytes), cudaMemcpyHostToDevice, impl_->copies),
        "cudaMemcpyAsync");
  check(cudaEventRecord(p.copied, impl_->copies), "cudaEventRecord");
  impl_->written ^= 1;
}

const void* Uploader::receive() {
  impl_->received = std::exchange(impl_->read, impl_->read ^ 1);
  Impl::Place& p = impl_->places[impl_->received];
  check(cudaStreamWaitEvent(stream(), p.copied, 0), "cudaStreamWaitEvent");
  return p.device;
}

void Uploader::done() {
  check(cudaEventRecord(impl_->places[impl_->received].used, stream()), "cudaEventRecord");
}

void scatter(const void* memory, int64_t count) {
  if (count > 0) launch(scatter_kernel, unsigned(count), kBlock, static_cast<const char*>(memory));
}

}  // namespace weft::kernels::cuda
