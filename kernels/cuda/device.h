// What all CUDA sources share: the stream, checked calls, launches, and wide loads. Kernels are started by
// launch() alone, so that the same sources run in the tests on an emulated device.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "weft/kernels/half.h"
#include "weft/kernels/kernels.h"

namespace weft::kernels::cuda {

/// The stream that work goes to; makes it, and chooses the device, at the first call.
cudaStream_t stream();
/// The same for what is no work, an event: see work_count().
cudaStream_t stream_for_event();
/// 0, or 1 where that is the stream of run_beside(): what two streams can't share, libraries' workspaces, is
/// there for each.
int lane();
constexpr int kLanes = 2;
/// While it lives work goes to the first stream, though run_beside() may be under way.
class FirstLane {
 public:
  FirstLane();
  ~FirstLane();
  FirstLane(const FirstLane&) = delete;
  FirstLane& operator=(const FirstLane&) = delete;

 private:
  int before_;
};
/// Throws Error "NAME: what CUDA said" unless `status` is success.
void check(cudaError_t status, const char* name);
/// Multiprocessors of the device: a grid of a few times as many blocks fills it.
int multiprocessors();
/// allocate() for the kernels' own purposes: where there is no memory, what the engine keeps for later is
/// given back to the device first. Null where even so there is none.
void* allocate_own(int64_t bytes);
/// Scratch memory of the stream, at least `bytes`, valid until the next call of scratch() (work that was
/// started earlier may still use it: the stream keeps the order). For partial sums of reductions.
void* scratch(int64_t bytes);

/// Whether the device knows launch_early(), and the kernels were compiled for such devices.
bool can_launch_early();
/// The same for launch_together() (together.h): not where processes share the device at the same time (MPS),
/// because two kernels whose blocks wait for each other could keep each other from running.
bool can_launch_together();

/// What all launches share: starts kernel(args...) with so many attributes, and so many bytes of dynamic
/// shared memory.
template <class... Params, class... Args>
void launch_with(cudaLaunchAttribute* attributes, unsigned count, size_t shared, void (*kernel)(Params...),
                 dim3 grid, dim3 block, Args&&... args) {
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = block;
  config.dynamicSmemBytes = shared;
  config.stream = stream();
  config.attrs = attributes;
  config.numAttrs = count;
  check(cudaLaunchKernelEx(&config, kernel, static_cast<Params>(args)...), "cudaLaunchKernelEx");
}

/// Starts kernel(args...) on `grid` blocks of `block` threads.
template <class... Params, class... Args>
void launch(void (*kernel)(Params...), dim3 grid, dim3 block, Args&&... args) {
  launch_with(nullptr, 0, 0, kernel, grid, block, args...);
}

/// What tells CUDA that a launch is early, where can_launch_early().
inline cudaLaunchAttribute early_attribute() {
  cudaLaunchAttribute early{};
  early.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  early.val.programmaticStreamSerializationAllowed = 1;
  return early;
}
/// The same for a kernel that begins with wait_for_earlier(): it may come to the multiprocessors while the
/// work before it ends ("programmatic dependent launch", from sm_90 on).
template <class... Params, class... Args>
void launch_early(void (*kernel)(Params...), dim3 grid, dim3 block, Args&&... args) {
  cudaLaunchAttribute early = early_attribute();
  launch_with(&early, can_launch_early() ? 1 : 0, 0, kernel, grid, block, args...);
}
/// The same with dynamic shared memory, 48 KiB of it and more where the device has it.
template <class... Params, class... Args>
void launch_early_with(size_t shared, void (*kernel)(Params...), dim3 grid, dim3 block, Args&&... args) {
  check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, int(shared)),
        "cudaFuncSetAttribute");
  cudaLaunchAttribute early = early_attribute();
  launch_with(&early, can_launch_early() ? 1 : 0, shared, kernel, grid, block, args...);
}
/// Whether wait_for_earlier() is there in the code that the device runs: PTX for older ones has none.
bool waits_for_earlier();
/// What comes after it sees the results of all earlier work; before it nothing may be read or written but
/// parameters. No kernel that is launched early takes `const T* __restrict__`: that says of the memory that
/// nothing writes it while the kernel runs, which it does while the work before it still writes, and lets the
/// compiler read it before the wait.
__device__ inline void wait_for_earlier() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

constexpr int kWarp = 32;

/// Blocks for `n` items at `per_block` each, at most `limit`; at least one.
inline unsigned blocks_for(int64_t n, int64_t per_block, int64_t limit = int64_t{1} << 30) {
  const int64_t blocks = (n + per_block - 1) / per_block;
  return unsigned(blocks < 1 ? 1 : blocks > limit ? limit : blocks);
}

/// N neighbouring elements that travel in one load or store (N * sizeof(T) of 2, 4, 8 or 16 bytes).
template <class T, int N>
struct alignas(N * sizeof(T)) Pack {
  T v[N];
};

}  // namespace weft::kernels::cuda
