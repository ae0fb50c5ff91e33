// Device memory and pinned host memory, and copies between them.

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <map>
#include <vector>

#include "asan.h"
#include "block.h"
#include "device.h"

namespace weft_emulator {
namespace {

constexpr size_t guard_size = 512;  // as much as CUDA aligns memory to
constexpr unsigned char guard_byte = 0xa5;

/// A mapping of its own: guard, memory, guard up to the end of the page.
struct Allocation {
  unsigned char* mapping;
  size_t mapped;
  unsigned char* memory;
  size_t size;

  unsigned char* end() const { return memory + size; }
  size_t guard_behind() const { return static_cast<size_t>(mapping + mapped - end()); }
};

using Allocations = std::map<uintptr_t, Allocation>;
Allocations device_memory, pinned_memory;
int device_at_work = 0;

/// Lets a kernel or a copy at the memory, or keeps the host from it.
void set_access(const Allocation& a, bool allowed) {
#ifdef WEFT_EMULATOR_ASAN
  if (allowed) {
    ASAN_UNPOISON_MEMORY_REGION(a.memory, a.size);
  } else {
    ASAN_POISON_MEMORY_REGION(a.memory, a.size);
  }
#else
  mprotect(a.mapping, a.mapped, allowed ? PROT_READ | PROT_WRITE : PROT_NONE);
#endif
}

void set_access(bool allowed) {
  for (const auto& [start, allocation] : device_memory) set_access(allocation, allowed);
}

bool hidden() { return Device::get().protect && device_at_work == 0; }

void* allocate(Allocations& allocations, size_t size) {
  const size_t mapped = (2 * guard_size + size + 4095) / 4096 * 4096;
  void* mapping = mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapping == MAP_FAILED) return nullptr;
  auto* bytes = static_cast<unsigned char*>(mapping);
  const Allocation a{bytes, mapped, bytes + guard_size, size};
  std::memset(a.mapping, guard_byte, guard_size);
  std::memset(a.memory, 0xff, size);
  std::memset(a.end(), guard_byte, a.guard_behind());
  ASAN_POISON_MEMORY_REGION(a.mapping, guard_size);
  ASAN_POISON_MEMORY_REGION(a.end(), a.guard_behind());
  allocations[reinterpret_cast<uintptr_t>(a.memory)] = a;
  if (&allocations == &device_memory && hidden()) set_access(a, false);
  return a.memory;
}

void check(const Allocation& a) {
  ASAN_UNPOISON_MEMORY_REGION(a.mapping, guard_size);
  ASAN_UNPOISON_MEMORY_REGION(a.end(), a.guard_behind());
  const auto damaged = [](unsigned char byte) { return byte != guard_byte; };
  unsigned char* const before = std::find_if(a.mapping, a.memory, damaged);
  if (before != a.memory)
    fail("%zu bytes before an allocation of %zu bytes were written to",
         static_cast<size_t>(a.memory - before), a.size);
  unsigned char* const behind = std::find_if(a.end(), a.end() + a.guard_behind(), damaged);
  if (behind != a.end() + a.guard_behind())
    fail("%zu bytes behind an allocation of %zu bytes were written to", static_cast<size_t>(behind - a.end()),
         a.size);
  ASAN_POISON_MEMORY_REGION(a.mapping, guard_size);
  ASAN_POISON_MEMORY_REGION(a.end(), a.guard_behind());
}

/// False if `pointer` isn't the start of one.
bool release(Allocations& allocations, void* pointer, size_t& size) {
  const auto found = allocations.find(reinterpret_cast<uintptr_t>(pointer));
  if (found == allocations.end()) return false;
  const Allocation a = found->second;
  if (&allocations == &device_memory && hidden()) set_access(a, true);
  check(a);
  ASAN_UNPOISON_MEMORY_REGION(a.mapping, a.mapped);
  size = a.size;
  allocations.erase(found);
  munmap(a.mapping, a.mapped);
  return true;
}

enum class Place { outside, inside, across };

Place place(const Allocations& allocations, const void* pointer, size_t size) {
  const auto at = reinterpret_cast<uintptr_t>(pointer);
  auto next = allocations.upper_bound(at + (size ? size - 1 : 0));
  if (next == allocations.begin()) return Place::outside;
  const Allocation& a = std::prev(next)->second;
  const auto begin = reinterpret_cast<uintptr_t>(a.memory), end = begin + a.size;
  if (at >= begin && at + size <= end) return Place::inside;
  return at < end && at + size > begin ? Place::across : Place::outside;
}

bool pageable(const void* pointer, size_t size) {
  return place(pinned_memory, pointer, size) != Place::inside;
}

/// Resolves cudaMemcpyDefault, and checks that both sides are what `kind` says.
cudaError_t resolve(const void* target, const void* source, size_t target_size, size_t source_size,
                    cudaMemcpyKind& kind) {
  if (kind < cudaMemcpyHostToHost || kind > cudaMemcpyDefault) return cudaErrorInvalidMemcpyDirection;
  if (!target || !source) return cudaErrorInvalidValue;
  const Place to = place(device_memory, target, target_size),
              from = place(device_memory, source, source_size);
  if (to == Place::across || from == Place::across) return cudaErrorInvalidValue;
  const auto actual =
      static_cast<cudaMemcpyKind>((to == Place::inside ? 1 : 0) + (from == Place::inside ? 2 : 0));
  if (kind == cudaMemcpyDefault) kind = actual;
  return kind == actual ? cudaSuccess : cudaErrorInvalidValue;
}

struct Copy {
  void* target;
  size_t target_pitch;
  const void* source;
  size_t source_pitch, width, height;
  cudaMemcpyKind kind;

  size_t source_size() const { return (height - 1) * source_pitch + width; }
  size_t target_size() const { return (height - 1) * target_pitch + width; }

  void operator()() const {
    Stats& stats = Device::get().stats;
    if (kind == cudaMemcpyHostToDevice) ++stats.copies_to_device, stats.bytes_to_device += width * height;
    if (kind == cudaMemcpyDeviceToHost) ++stats.copies_to_host, stats.bytes_to_host += width * height;
    for (size_t row = 0; row < height; ++row)
      std::memmove(static_cast<char*>(target) + row * target_pitch,
                   static_cast<const char*>(source) + row * source_pitch, width);
  }
};

/// What CUDA leaves undefined. Rows of several may lie between each other's.
bool overlaps(const Copy& copy) {
  const auto to = reinterpret_cast<uintptr_t>(copy.target), from = reinterpret_cast<uintptr_t>(copy.source);
  return copy.height == 1 && to < from + copy.width && from < to + copy.width;
}

cudaError_t resolve(Copy& copy) {
  if (copy.width > copy.target_pitch || copy.width > copy.source_pitch) return cudaErrorInvalidPitchValue;
  if (overlaps(copy)) return cudaErrorInvalidValue;
  return resolve(copy.target, copy.source, copy.target_size(), copy.source_size(), copy.kind);
}

cudaError_t copy_now(Copy copy) {
  if (copy.width == 0 || copy.height == 0) return cudaSuccess;
  if (const cudaError_t error = resolve(copy)) return error;
  if (const cudaError_t error = uses_default_stream()) return error;
  if (const cudaError_t error = unsafe_in_capture()) return error;
  if (copy.kind == cudaMemcpyDeviceToDevice) return submit(nullptr, copy);  // the host doesn't wait for these
  if (const cudaError_t error = synchronize(nullptr)) return error;
  const DeviceAtWork access;
  copy();
  return cudaSuccess;
}

cudaError_t copy_later(Copy copy, cudaStream_t stream) {
  if (copy.width == 0 || copy.height == 0) return cudaSuccess;
  if (const cudaError_t error = resolve(copy)) return error;
  const bool from_pageable = copy.kind <= cudaMemcpyHostToDevice && pageable(copy.source, copy.source_size());
  const bool to_pageable = (copy.kind == cudaMemcpyHostToHost || copy.kind == cudaMemcpyDeviceToHost) &&
                           pageable(copy.target, copy.target_size());
  if (!from_pageable && !to_pageable) return submit(stream, copy);
  if (capturing(stream)) {
    invalidate(stream);
    return cudaErrorStreamCaptureUnsupported;
  }
  ++Device::get().stats.pageable_copies;
  if (to_pageable) {
    if (const cudaError_t error = submit(stream, copy)) return error;
    return synchronize(stream);
  }
  // The source is read before the call returns.
  const auto* begin = static_cast<const char*>(copy.source);
  auto staged = std::make_shared<std::vector<char>>(begin, begin + copy.source_size());
  copy.source = staged->data();
  return submit(stream, [copy, staged] { copy(); });
}

cudaError_t fill(void* pointer, int value, size_t count, cudaStream_t stream) {
  if (count == 0) return cudaSuccess;
  if (place(device_memory, pointer, count) != Place::inside) return cudaErrorInvalidValue;
  return submit(stream, [=] { std::memset(pointer, value, count); });
}

cudaError_t allocate_device(void** pointer, size_t size) {
  if (!pointer) return cudaErrorInvalidValue;
  *pointer = nullptr;
  if (size == 0) return cudaSuccess;
  Device& device = Device::get();
  if (size > device.memory_limit || device.allocated > device.memory_limit - size)
    return cudaErrorMemoryAllocation;
  *pointer = allocate(device_memory, size);
  if (!*pointer) return cudaErrorMemoryAllocation;
  device.allocated += size;
  device.peak = std::max(device.peak, device.allocated);
  ++device.stats.mallocs;
  return cudaSuccess;
}

cudaError_t free_device(void* pointer) {
  size_t size = 0;
  if (!release(device_memory, pointer, size)) return cudaErrorInvalidValue;
  Device::get().allocated -= size;
  ++Device::get().stats.frees;
  return cudaSuccess;
}

}  // namespace

size_t allocated() { return Device::get().allocated; }
size_t peak_allocated() { return Device::get().peak; }

void set_memory_limit(size_t bytes) {
  Device::get().memory_limit = bytes;
  Device::get().properties.totalGlobalMem = bytes;
}

DeviceAtWork::DeviceAtWork() {
  if (device_at_work++ == 0 && Device::get().protect) set_access(true);
}

DeviceAtWork::~DeviceAtWork() {
  if (--device_at_work == 0 && Device::get().protect) set_access(false);
}

void set_protected(bool on) {
  const Call call;
  if (on != Device::get().protect) set_access(!on);
  Device::get().protect = on;
}

void check_guards() {
  const Call call;
  const DeviceAtWork access;
  for (const auto& [start, allocation] : device_memory) check(allocation);
  for (const auto& [start, allocation] : pinned_memory) check(allocation);
}

bool is_device_memory(const void* pointer, size_t size) {
  const Call call;
  return place(device_memory, pointer, size) == Place::inside;
}

}  // namespace weft_emulator

using namespace weft_emulator;

cudaError_t cudaMalloc(void** pointer, size_t size) {
  WEFT_EMULATOR_CALL;
  if (const cudaError_t error = unsafe_in_capture()) return done(error);
  return done(allocate_device(pointer, size));
}

cudaError_t cudaFree(void* pointer) {
  WEFT_EMULATOR_CALL;
  if (!pointer) return cudaSuccess;
  if (const cudaError_t error = unsafe_in_capture()) return done(error);
  if (const cudaError_t error = synchronize_device()) return done(error);
  return done(free_device(pointer));
}

cudaError_t cudaMallocHost(void** pointer, size_t size, unsigned) {
  WEFT_EMULATOR_CALL;
  if (!pointer) return done(cudaErrorInvalidValue);
  if (const cudaError_t error = unsafe_in_capture()) return done(error);
  *pointer = size ? allocate(pinned_memory, size) : nullptr;
  return done(size && !*pointer ? cudaErrorMemoryAllocation : cudaSuccess);
}

cudaError_t cudaHostAlloc(void** pointer, size_t size, unsigned flags) {
  return cudaMallocHost(pointer, size, flags);
}

cudaError_t cudaFreeHost(void* pointer) {
  WEFT_EMULATOR_CALL;
  if (!pointer) return cudaSuccess;
  if (const cudaError_t error = unsafe_in_capture()) return done(error);
  if (const cudaError_t error = synchronize_device()) return done(error);
  size_t size = 0;
  return done(release(pinned_memory, pointer, size) ? cudaSuccess : cudaErrorInvalidValue);
}

cudaError_t cudaMallocAsync(void** pointer, size_t size, cudaStream_t stream) {
  WEFT_EMULATOR_CALL;
  if (capturing(stream)) {  // a device would make it a node of the graph
    invalidate(stream);
    return done(cudaErrorStreamCaptureUnsupported);
  }
  return done(allocate_device(pointer, size));
}

cudaError_t cudaFreeAsync(void* pointer, cudaStream_t stream) {
  WEFT_EMULATOR_CALL;
  if (!pointer) return cudaSuccess;
  if (capturing(stream)) {
    invalidate(stream);
    return done(cudaErrorStreamCaptureUnsupported);
  }
  if (!device_memory.contains(reinterpret_cast<uintptr_t>(pointer))) return done(cudaErrorInvalidValue);
  return done(submit(stream, [pointer] { free_device(pointer); }));
}

cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
  WEFT_EMULATOR_CALL;
  const Device& device = Device::get();
  *total = device.memory_limit;
  *free = device.memory_limit - std::min(device.memory_limit, device.allocated);
  return cudaSuccess;
}

cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* pointer) {
  WEFT_EMULATOR_CALL;
  void* const p = const_cast<void*>(pointer);
  *attributes = {cudaMemoryTypeUnregistered, -2, nullptr, p};
  if (place(device_memory, p, 1) == Place::inside) *attributes = {cudaMemoryTypeDevice, 0, p, nullptr};
  if (place(pinned_memory, p, 1) == Place::inside) *attributes = {cudaMemoryTypeHost, 0, p, p};
  return cudaSuccess;
}

cudaError_t cudaMemcpy(void* target, const void* source, size_t count, cudaMemcpyKind kind) {
  WEFT_EMULATOR_CALL;
  return done(copy_now({target, count, source, count, count, 1, kind}));
}

cudaError_t cudaMemcpyAsync(void* target, const void* source, size_t count, cudaMemcpyKind kind,
                            cudaStream_t stream) {
  WEFT_EMULATOR_CALL;
  return done(copy_later({target, count, source, count, count, 1, kind}, stream));
}

namespace {
constexpr size_t kMaxPitch = 0x7fffffff;  // memPitch of all devices
}

cudaError_t cudaMemcpy2D(void* target, size_t target_pitch, const void* source, size_t source_pitch,
                         size_t width, size_t height, cudaMemcpyKind kind) {
  WEFT_EMULATOR_CALL;
  if (std::max(target_pitch, source_pitch) > kMaxPitch) return done(cudaErrorInvalidPitchValue);
  return done(copy_now({target, target_pitch, source, source_pitch, width, height, kind}));
}

cudaError_t cudaMemcpy2DAsync(void* target, size_t target_pitch, const void* source, size_t source_pitch,
                              size_t width, size_t height, cudaMemcpyKind kind, cudaStream_t stream) {
  WEFT_EMULATOR_CALL;
  if (std::max(target_pitch, source_pitch) > kMaxPitch) return done(cudaErrorInvalidPitchValue);
  return done(copy_later({target, target_pitch, source, source_pitch, width, height, kind}, stream));
}

cudaError_t cudaMemset(void* pointer, int value, size_t count) {
  WEFT_EMULATOR_CALL;
  return done(fill(pointer, value, count, nullptr));
}

cudaError_t cudaMemsetAsync(void* pointer, int value, size_t count, cudaStream_t stream) {
  WEFT_EMULATOR_CALL;
  return done(fill(pointer, value, count, stream));
}
