#pragma once
// What tests can ask of the emulated device, and set.

#include <cstddef>
#include <cstdint>

#include "weft_emulator/host.h"

namespace weft_emulator {

struct Stats {
  uint64_t launches = 0;        ///< calls of cudaLaunchKernelEx, those recorded in a capture too
  uint64_t graph_launches = 0;  ///< calls of cudaGraphLaunch
  uint64_t kernels = 0;         ///< kernels that ran, in graphs too
  uint64_t threads = 0;         ///< threads of these kernels
  uint64_t host_functions = 0;  ///< cudaLaunchHostFunc's that ran: products and convolutions among them
  /// Calls that made the host wait: synchronize, blocking copies, pageable ones, frees.
  uint64_t host_syncs = 0;
  uint64_t copies_to_device = 0;  ///< copies host to device that ran
  uint64_t bytes_to_device = 0;
  uint64_t copies_to_host = 0;  ///< copies device to host that ran
  uint64_t bytes_to_host = 0;
  uint64_t pageable_copies = 0;  ///< asynchronous copies from or to host memory that isn't pinned
  uint64_t mallocs = 0;          ///< successful cudaMalloc and cudaMallocAsync
  uint64_t frees = 0;
};

/// Counted since the last reset_stats().
Stats stats();
void reset_stats();

/// Bytes of device memory allocated at the moment, as the program asked for them, and the most since
/// reset_stats().
size_t allocated();
size_t peak_allocated();

/// Device memory in all (1 GiB): more gives cudaErrorMemoryAllocation.
void set_memory_limit(size_t bytes);

/// With 0 devices every call gives `error`: cudaErrorInsufficientDriver, as where no driver is installed, or
/// cudaErrorNoDevice.
void set_device_count(int count, cudaError_t error = cudaErrorInsufficientDriver);

/// What cudaGetDeviceProperties gives; may be changed.
cudaDeviceProp& properties();

/// Lets the launch after the next `launches` ones fail with `error`. cudaSuccess calls it off.
void fail_launch_after(uint64_t launches, cudaError_t error);

/// Seed of the order of blocks and warps, instead of the environment variable WEFT_EMULATOR_SEED or 1.
void set_seed(uint64_t seed);

/// Lets work in streams wait until somebody waits for it (also by WEFT_EMULATOR_DEFER=1), instead of being
/// done at once. So a missing wait for an event or for the host shows. An event query gives cudaErrorNotReady
/// and does one piece of work.
void set_deferred(bool deferred);
/// On while it lives.
struct Deferred {
  Deferred() { set_deferred(true); }
  ~Deferred() { set_deferred(false); }
  Deferred(const Deferred&) = delete;
  Deferred& operator=(const Deferred&) = delete;
};

/// Keeps the host's code from device memory: touching it outside a kernel or a copy ends the program, under
/// AddressSanitizer (where this is on from the start) with its report, else by SIGSEGV. Also by
/// WEFT_EMULATOR_PROTECT=1 or 0. Costs some microseconds for each megabyte and launch.
void set_protected(bool on);

/// Bytes written outside an allocation end the program at cudaFree, and in here. With WEFT_EMULATOR_CHECK=1
/// after every kernel.
void check_guards();

/// Whether all of [pointer, pointer + size) lies in one allocation of device memory.
bool is_device_memory(const void* pointer, size_t size = 1);

}  // namespace weft_emulator
