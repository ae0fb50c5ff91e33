#pragma once
// The emulated device behind the API: one for the process, under one lock.

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <unordered_map>

#include "weft_emulator.h"

namespace weft_emulator {

struct Device {
  std::recursive_mutex mutex;
  int count = 1;
  cudaError_t absent = cudaErrorInsufficientDriver;
  cudaDeviceProp properties;
  size_t memory_limit = size_t{1} << 30;
  size_t allocated = 0, peak = 0;
  Stats stats;
  bool deferred = false, check_guards = false, protect = false;
  uint64_t seed = 1, launches_seeded = 0;
  std::unordered_map<const void*, size_t> dynamic_shared;  // bytes, of kernels that may have more than 48 KiB
  uint64_t launches_to_fail = 0;
  cudaError_t launch_error = cudaSuccess;

  static Device& get();
  Device();
};

/// Remembers an error for cudaGetLastError, as every call of the API does at its end.
cudaError_t done(cudaError_t error);

/// Begins a call of the API: locks, and gives the error of a device that isn't there.
class Call {
 public:
  Call() : lock_(Device::get().mutex) {}
  cudaError_t error() const { return Device::get().count > 0 ? cudaSuccess : done(Device::get().absent); }

 private:
  std::lock_guard<std::recursive_mutex> lock_;
};

#define WEFT_EMULATOR_CALL \
  const Call call;         \
  if (call.error()) return call.error()

/// While one of these lives, device memory can be accessed (set_protected).
class DeviceAtWork {
 public:
  DeviceAtWork();
  ~DeviceAtWork();
  DeviceAtWork(const DeviceAtWork&) = delete;
  DeviceAtWork& operator=(const DeviceAtWork&) = delete;
};

/// Does work in a stream: at once, later, or in a graph.
cudaError_t submit(cudaStream_t stream, std::function<void()> work);

/// The host waits for all work of a stream, or of all streams; counted.
cudaError_t synchronize(cudaStream_t stream);
cudaError_t synchronize_device();

/// The error of a call that isn't allowed while this thread, or any, captures; the capture is then invalid.
cudaError_t unsafe_in_capture();
/// The same for work on the default stream beside a capturing stream that would have to wait for it.
cudaError_t uses_default_stream();
bool capturing(cudaStream_t stream);
void invalidate(cudaStream_t stream);

}  // namespace weft_emulator
