// The device itself, its errors, and the launch of kernels.

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "asan.h"
#include "block.h"
#include "device.h"

namespace weft_emulator {
namespace {

thread_local cudaError_t last_error = cudaSuccess;

struct ErrorText {
  cudaError_t error;
  const char *name, *text;
};
#define WEFT_EMULATOR_ERROR(name, text) \
  { name, #name, text }
constexpr ErrorText error_texts[] = {
    WEFT_EMULATOR_ERROR(cudaSuccess, "no error"),
    WEFT_EMULATOR_ERROR(cudaErrorInvalidValue, "invalid argument"),
    WEFT_EMULATOR_ERROR(cudaErrorMemoryAllocation, "out of memory"),
    WEFT_EMULATOR_ERROR(cudaErrorInitializationError, "initialization error"),
    WEFT_EMULATOR_ERROR(cudaErrorInvalidConfiguration, "invalid configuration argument"),
    WEFT_EMULATOR_ERROR(cudaErrorInvalidPitchValue, "invalid pitch argument"),
    WEFT_EMULATOR_ERROR(cudaErrorInvalidMemcpyDirection, "invalid copy direction for memcpy"),
    WEFT_EMULATOR_ERROR(cudaErrorInsufficientDriver,
                        "CUDA driver version is insufficient for CUDA runtime version"),
    WEFT_EMULATOR_ERROR(cudaErrorInvalidDeviceFunction, "invalid device function"),
    WEFT_EMULATOR_ERROR(cudaErrorNoDevice, "no CUDA-capable device is detected"),
    WEFT_EMULATOR_ERROR(cudaErrorInvalidDevice, "invalid device ordinal"),
    WEFT_EMULATOR_ERROR(cudaErrorNoKernelImageForDevice,
                        "no kernel image is available for execution on the device"),
    WEFT_EMULATOR_ERROR(cudaErrorInvalidResourceHandle, "invalid resource handle"),
    WEFT_EMULATOR_ERROR(cudaErrorIllegalState, "the operation cannot be performed in the present state"),
    WEFT_EMULATOR_ERROR(cudaErrorNotReady, "device not ready"),
    WEFT_EMULATOR_ERROR(cudaErrorIllegalAddress, "an illegal memory access was encountered"),
    WEFT_EMULATOR_ERROR(cudaErrorLaunchOutOfResources, "too many resources requested for launch"),
    WEFT_EMULATOR_ERROR(cudaErrorAssert, "device-side assert triggered"),
    WEFT_EMULATOR_ERROR(cudaErrorMisalignedAddress, "misaligned address"),
    WEFT_EMULATOR_ERROR(cudaErrorLaunchFailure, "unspecified launch failure"),
    WEFT_EMULATOR_ERROR(cudaErrorCooperativeLaunchTooLarge, "too many blocks in cooperative launch"),
    WEFT_EMULATOR_ERROR(cudaErrorNotPermitted, "operation not permitted"),
    WEFT_EMULATOR_ERROR(cudaErrorNotSupported, "operation not supported"),
    WEFT_EMULATOR_ERROR(cudaErrorStreamCaptureUnsupported,
                        "operation not permitted when stream is capturing"),
    WEFT_EMULATOR_ERROR(cudaErrorStreamCaptureInvalidated,
                        "operation failed due to a previous error during capture"),
    WEFT_EMULATOR_ERROR(cudaErrorStreamCaptureMerge,
                        "operation would result in a merge of separate capture sequences"),
    WEFT_EMULATOR_ERROR(cudaErrorStreamCaptureUnmatched,
                        "capture was not ended in the same stream as it began"),
    WEFT_EMULATOR_ERROR(cudaErrorStreamCaptureUnjoined, "capturing stream has unjoined work"),
    WEFT_EMULATOR_ERROR(cudaErrorStreamCaptureIsolation,
                        "dependency created on uncaptured work in another stream"),
    WEFT_EMULATOR_ERROR(cudaErrorStreamCaptureImplicit,
                        "operation would make the legacy stream depend on a capturing blocking stream"),
    WEFT_EMULATOR_ERROR(cudaErrorCapturedEvent,
                        "operation not permitted on an event last recorded in a capturing stream"),
    WEFT_EMULATOR_ERROR(cudaErrorStreamCaptureWrongThread,
                        "attempt to terminate a thread-local capture sequence from "
                        "another thread"),
    WEFT_EMULATOR_ERROR(cudaErrorUnknown, "unknown error"),
};
#undef WEFT_EMULATOR_ERROR

const ErrorText* find(cudaError_t error) {
  const auto* const found = std::find_if(std::begin(error_texts), std::end(error_texts),
                                         [&](const ErrorText& e) { return e.error == error; });
  return found == std::end(error_texts) ? nullptr : found;
}

bool set_in_environment(const char* name) {
  const char* const value = std::getenv(name);
  return value && *value && std::strcmp(value, "0") != 0;
}

}  // namespace

Device::Device() : properties{} {
  if (const char* const value = std::getenv("WEFT_EMULATOR_SEED")) seed = std::strtoull(value, nullptr, 10);
  deferred = set_in_environment("WEFT_EMULATOR_DEFER");
#ifdef WEFT_EMULATOR_ASAN
  protect = true;
#endif
  if (std::getenv("WEFT_EMULATOR_PROTECT")) protect = set_in_environment("WEFT_EMULATOR_PROTECT");
  check_guards = set_in_environment("WEFT_EMULATOR_CHECK");
  std::snprintf(properties.name, sizeof properties.name, "emulated");
  properties.totalGlobalMem = memory_limit;
  properties.sharedMemPerBlock = 48 << 10;
  properties.sharedMemPerBlockOptin = 227 << 10;
  properties.sharedMemPerMultiprocessor = 228 << 10;
  properties.regsPerBlock = properties.regsPerMultiprocessor = 65536;
  properties.warpSize = 32;
  properties.maxThreadsPerBlock = properties.maxThreadsDim[0] = properties.maxThreadsDim[1] = 1024;
  properties.maxThreadsDim[2] = 64;
  properties.maxGridSize[0] = 0x7fffffff;
  properties.maxGridSize[1] = properties.maxGridSize[2] = 65535;
  properties.totalConstMem = 64 << 10;
  properties.major = 9;
  // Few multiprocessors: grids sized by their number then loop over their work also where tests are small.
  const char* const count = std::getenv("WEFT_EMULATOR_MULTIPROCESSORS");
  properties.multiProcessorCount = count ? std::atoi(count) : 4;
  properties.asyncEngineCount = 1;
  properties.unifiedAddressing = 1;
  properties.memoryBusWidth = 256;
  properties.l2CacheSize = 4 << 20;
  properties.maxThreadsPerMultiProcessor = 2048;
  properties.maxBlocksPerMultiProcessor = 32;
  properties.memoryPoolsSupported = 1;
}

Device& Device::get() {
  static Device device;
  return device;
}

cudaError_t done(cudaError_t error) {
  if (error) last_error = error;
  return error;
}

Stats stats() {
  const Call call;
  return Device::get().stats;
}

void reset_stats() {
  const Call call;
  Device::get().stats = {};
  Device::get().peak = Device::get().allocated;
}

void set_device_count(int count, cudaError_t error) {
  Device::get().count = count;
  Device::get().absent = error;
}

cudaDeviceProp& properties() { return Device::get().properties; }

void fail_launch_after(uint64_t launches, cudaError_t error) {
  Device::get().launches_to_fail = launches;
  Device::get().launch_error = error;
}

void set_seed(uint64_t seed) {
  Device::get().seed = seed;
  Device::get().launches_seeded = 0;
}

namespace detail {

cudaError_t launch(const cudaLaunchConfig_t* config, const void* kernel, std::function<void()> thread) {
  WEFT_EMULATOR_CALL;
  if (!kernel) return done(cudaErrorInvalidDeviceFunction);
  Device& device = Device::get();
  const dim3 grid = config->gridDim, block = config->blockDim;
  const auto fits = [](dim3 size, const int(&most)[3]) {
    return size.x - 1 < static_cast<unsigned>(most[0]) && size.y - 1 < static_cast<unsigned>(most[1]) &&
           size.z - 1 < static_cast<unsigned>(most[2]);  // 0 - 1 is the largest number
  };
  if (!fits(grid, device.properties.maxGridSize) || !fits(block, device.properties.maxThreadsDim) ||
      block.x * block.y * block.z > static_cast<unsigned>(device.properties.maxThreadsPerBlock))
    return done(cudaErrorInvalidConfiguration);
  bool together = false;
  for (unsigned i = 0; i < config->numAttrs; ++i)
    if (config->attrs[i].id == cudaLaunchAttributeCooperative)
      together = config->attrs[i].val.cooperative != 0;
  // A block is taken to need a multiprocessor for itself.
  if (together && uint64_t{grid.x} * grid.y * grid.z > uint64_t(device.properties.multiProcessorCount))
    return done(cudaErrorCooperativeLaunchTooLarge);
  const auto allowed = device.dynamic_shared.find(kernel);
  if (config->dynamicSmemBytes >
      (allowed == device.dynamic_shared.end() ? device.properties.sharedMemPerBlock : allowed->second))
    return done(cudaErrorInvalidValue);
  if (device.launch_error && device.launches_to_fail-- == 0)
    return done(std::exchange(device.launch_error, cudaSuccess));
  ++device.stats.launches;
  return done(submit(config->stream, [kernel, grid, block, together, thread = std::move(thread)] {
    Device& d = Device::get();
    ++d.stats.kernels;
    d.stats.threads += uint64_t{grid.x} * grid.y * grid.z * block.x * block.y * block.z;
    BlockRunner::of_this_thread().run(kernel, grid, block, together, thread,
                                      d.seed * 0x9e3779b97f4a7c15 + d.launches_seeded++);
    if (d.check_guards) check_guards();
  }));
}

int max_active_blocks(int threads) {
  const cudaDeviceProp& p = Device::get().properties;
  return threads > 0 ? std::min(p.maxBlocksPerMultiProcessor, p.maxThreadsPerMultiProcessor / threads) : 0;
}

int ptx_version() {
  const cudaDeviceProp& p = Device::get().properties;
  return p.major * 10 + p.minor;
}

cudaError_t set_attribute(const void* kernel, cudaFuncAttribute attribute, int value) {
  WEFT_EMULATOR_CALL;
  if (!kernel) return done(cudaErrorInvalidDeviceFunction);
  if (attribute == cudaFuncAttributeMaxDynamicSharedMemorySize) {
    if (value < 0 || size_t(value) > Device::get().properties.sharedMemPerBlockOptin)
      return done(cudaErrorInvalidValue);
    Device::get().dynamic_shared[kernel] = size_t(value);
  }
  return cudaSuccess;
}

}  // namespace detail
}  // namespace weft_emulator

using namespace weft_emulator;

const char* cudaGetErrorName(cudaError_t error) {
  const ErrorText* const found = find(error);
  return found ? found->name : "unrecognized error code";
}

const char* cudaGetErrorString(cudaError_t error) {
  const ErrorText* const found = find(error);
  return found ? found->text : "unrecognized error code";
}

cudaError_t cudaGetLastError() { return std::exchange(last_error, cudaSuccess); }

cudaError_t cudaPeekAtLastError() { return last_error; }

cudaError_t cudaDriverGetVersion(int* version) {
  *version = Device::get().count ? CUDART_VERSION : 0;  // as where no driver is installed
  return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = CUDART_VERSION;
  return cudaSuccess;
}

cudaError_t cudaGetDeviceCount(int* count) {
  *count = 0;
  WEFT_EMULATOR_CALL;
  *count = Device::get().count;
  return cudaSuccess;
}

cudaError_t cudaSetDevice(int device) {
  WEFT_EMULATOR_CALL;
  return done(device >= 0 && device < Device::get().count ? cudaSuccess : cudaErrorInvalidDevice);
}

cudaError_t cudaGetDevice(int* device) {
  WEFT_EMULATOR_CALL;
  *device = 0;
  return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  WEFT_EMULATOR_CALL;
  if (device < 0 || device >= Device::get().count) return done(cudaErrorInvalidDevice);
  *properties = Device::get().properties;
  return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
  WEFT_EMULATOR_CALL;
  if (device < 0 || device >= Device::get().count) return done(cudaErrorInvalidDevice);
  const cudaDeviceProp& p = Device::get().properties;
  switch (attribute) {
    case cudaDevAttrMaxThreadsPerBlock:
      *value = p.maxThreadsPerBlock;
      break;
    case cudaDevAttrMaxSharedMemoryPerBlock:
      *value = static_cast<int>(p.sharedMemPerBlock);
      break;
    case cudaDevAttrWarpSize:
      *value = p.warpSize;
      break;
    case cudaDevAttrMultiProcessorCount:
      *value = p.multiProcessorCount;
      break;
    case cudaDevAttrL2CacheSize:
      *value = p.l2CacheSize;
      break;
    case cudaDevAttrMaxThreadsPerMultiProcessor:
      *value = p.maxThreadsPerMultiProcessor;
      break;
    case cudaDevAttrComputeCapabilityMajor:
      *value = p.major;
      break;
    case cudaDevAttrComputeCapabilityMinor:
      *value = p.minor;
      break;
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor:
      *value = static_cast<int>(p.sharedMemPerMultiprocessor);
      break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      *value = static_cast<int>(p.sharedMemPerBlockOptin);
      break;
    case cudaDevAttrMpsEnabled:
      *value = 0;
      break;
    case cudaDevAttrMemoryPoolsSupported:
      *value = p.memoryPoolsSupported;
      break;
    default:
      return done(cudaErrorInvalidValue);
  }
  return cudaSuccess;
}

cudaError_t cudaDeviceGetStreamPriorityRange(int* least, int* greatest) {
  *least = *greatest = 0;
  return cudaSuccess;
}
