// The CUDA kernels as the floors above see them: the table of ops, memory, and captured steps. One GPU a
// process, and one thread at a time. Work goes to one stream in the order of the calls, and the calls return
// before it is done; what reads results on the CPU (download, synchronize) waits for it. In a build without
// CUDA, and on a machine without a usable device, device_count() is 0 and says why, and everything else
// throws cuda::Error with that reason.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>

#include "weft/kernels/error.h"
#include "weft/kernels/half.h"
#include "weft/kernels/kernels.h"

namespace weft::kernels::cuda {

/// A call to CUDA or one of its libraries failed: names the call and what CUDA said.
class Error : public weft::Error {
 public:
  using weft::Error::Error;
};

/// The kernels for T = float, bf16 or f16. See KernelTable; sums are in a fixed order here too.
template <class T>
const KernelTable<T>& table();

// --- the device ---

/// Devices that can be used. If none: the reason goes to `why` where that is given. Never throws.
int device_count(std::string* why = nullptr);

struct DeviceInfo {
  std::string name;
  int major = 0, minor = 0;  ///< compute capability
  int multiprocessors = 0;
  int64_t memory_bytes = 0, l2_bytes = 0;
};
/// About the device in use.
DeviceInfo device_info();
/// Chooses the device of this process, 0 where it is never called. To be called before the first use of the
/// GPU.
void use_device(int index);
/// Waits until all work is done. Throws Error where some of it failed.
void synchronize();

// --- a second stream ---

/// Runs work(), whose work on the GPU goes to a second stream: it begins after all that was started before,
/// and what is started afterwards does not wait for it. Returns its number. No memory that it uses may be
/// released or written before await_beside(number); libraries and scratch memory aside, work() must be of
/// kernels that keep nothing of their own between launches.
int64_t run_beside(const std::function<void()>& work);
/// What is started from here on waits for the work of that number, and of all lower ones.
void await_beside(int64_t number);

// --- names for profilers ---

/// Whether modules and ops are to appear as NVTX ranges in NVIDIA's profilers: the environment variable
/// WEFT_NVTX is set, and the build found NVTX. Then they are those of eager steps: a captured step has no
/// ranges.
bool ranges_on();
void push_range(const char* name);
void pop_range();

// --- algorithms; for TF32 see precision.h ---

/// Whether only algorithms are chosen that give the same bits each time, whatever their speed. Default: off.
/// The kernels written here always do.
bool deterministic();
void set_deterministic(bool on);

/// Whether the first convolution of each shape and pass measures the algorithms that cuDNN proposes and keeps
/// the fastest, instead of the first, and the first matrix product of each shape, from 2^20 multiply-adds on,
/// those of cuBLASLt. Default: on. Nothing is measured within a capture or where deterministic(), because the
/// choice may differ from run to run.
bool conv_autotune();
void set_conv_autotune(bool on);
/// The folder in which measured choices are kept for later runs; empty, the default: none.
std::string plan_cache_folder();
void set_plan_cache_folder(std::string path);

// --- memory ---

/// Memory of the device, 256-byte aligned; null where it can't be had.
void* allocate(int64_t bytes);
void release(void* memory) noexcept;
/// What gives back memory that was allocated and is in no use. Called outside of captures, where memory for
/// the kernels' own purposes (scratch, the libraries' workspaces) could not be had; then that is tried again.
void set_reclaim(void (*reclaim)());

/// What of the device's memory nobody has taken.
int64_t free_memory();

/// Copies from the CPU's memory, which may be changed as soon as the call returns. Not within a capture.
void upload(void* to, const void* from, int64_t bytes);
/// Copies to the CPU's memory, and waits for it.
void download(void* to, const void* from, int64_t bytes);
void copy(void* to, const void* from, int64_t bytes);
/// Rows of `width` bytes that lie from_step and to_step bytes apart.
void copy_rows(const void* from, int64_t from_step, void* to, int64_t to_step, int64_t width, int64_t rows);
/// y[i0][i1].. = x[sum_d i_d stride_d]: a dense copy of a strided view. Elements of 1, 2, 4 or 8 bytes,
/// strides in elements, at most kMaxDims dimensions.
void permute(int element_bytes, int ndim, const int64_t* sizes, const int64_t* strides, const void* x,
             void* y);
/// Sets n elements of 1, 2, 4 or 8 bytes to the one at `value` (in the CPU's memory).
void fill(int element_bytes, int64_t n, const void* value, void* y);
/// y[i] = To(x[i]), between float, bf16, f16, int64_t and uint8_t.
template <class From, class To>
void convert(int64_t n, const From* x, To* y);

/// to[i] = To(from[i]), i < n.
template <class From, class To>
struct Conversion {
  const From* from;
  To* to;
  int64_t n;
};
/// Many conversions in one launch, from float to bf16 or f16 or back.
template <class From, class To>
void convert_all(std::span<const Conversion<From, To>> list);

/// Counts up whenever work may have been given to the GPU: by all that asks for its stream, graphs and
/// waiting included. As long as it stays the same, nothing but unfinished work has changed the GPU's memory.
int64_t work_count();

// --- a step captured once and launched often ---

/// Memory whose content the CPU makes anew for every step: learning rates, keys of random numbers. Calls
/// write(staging) and uploads what it wrote. Within a capture nothing happens at once; but each launch of the
/// graph does that first, so `write` must stay callable as long as the graph lives. `to` must keep its place
/// as long. `write` itself uploads nothing.
void upload_each_step(void* to, int64_t bytes, std::function<void(void* staging)> write);

/// Work on the GPU that was recorded once and is started with one call.
class Graph {
 public:
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;
  ~Graph();
  /// Makes the uploads of the step, all in one copy beside the work before, then starts the work.
  void launch();
  /// Kernels, copies and the like in it.
  int64_t nodes() const;

  struct Impl;
  explicit Graph(std::unique_ptr<Impl> impl);

 private:
  std::unique_ptr<Impl> impl_;
};
/// Runs `step`, whose work on the GPU is recorded and not done. Throws Error where `step` does what can't be
/// recorded (waiting for results, plain upload()); then nothing was changed on the GPU. All memory that
/// `step` takes must be kept for the graph alone as long as it lives: see MemoryPool in engine/allocator.h.
std::unique_ptr<Graph> capture(const std::function<void()>& step);
bool capturing();

}  // namespace weft::kernels::cuda
