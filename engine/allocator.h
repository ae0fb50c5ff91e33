// Memory of tensors: 64-byte aligned blocks out of large segments, kept for reuse, because a training step
// asks for the same sizes again and again and fresh pages cost a fault each.
#pragma once

#include <atomic>
#include <cstddef>
#include <memory>

#include "weft/engine/device.h"

namespace weft {

struct MemoryStats {
  size_t in_use = 0;  ///< bytes in live blocks
  size_t peak = 0;    ///< the most that was in use since the last reset
  size_t cached = 0;  ///< bytes kept for reuse
};

/// Memory of one device apart from the rest. A captured step (kernels::cuda::capture) writes to the same
/// addresses each time it is launched, so what it took while it was captured must serve nothing else: it is
/// captured, and run before that to fill the pool, inside of a MemoryPool::Use, and the pool is kept as long
/// as the graph. Blocks outlive their pool's handle.
class MemoryPool {
 public:
  explicit MemoryPool(Device device);
  struct Cache;
  MemoryStats stats() const;
  /// Says that no graph that was captured out of it is left: what is not in use is given back.
  void forget_capture() const;

  /// While it lives, this thread's memory of the pool's device comes from the pool.
  class Use {
   public:
    explicit Use(const MemoryPool& pool);
    ~Use();
    Use(const Use&) = delete;
    Use& operator=(const Use&) = delete;

   private:
    std::shared_ptr<Cache> before_;
    Device device_;
  };

 private:
  std::shared_ptr<Cache> cache_;
  Device device_;
};

/// A block of memory that returns to its cache when it is destroyed. On a GPU work is done in the order in
/// which it was asked for, so a block can serve the next asker while the work of the last is still to come.
class Storage {
 public:
  /// Uninitialised memory. Throws OutOfMemoryError, after giving the caches back to the system and trying
  /// again: the device's, and the pool's in use, which keeps all it has once a step was captured out of it.
  /// Within a capture nothing is given back.
  explicit Storage(size_t bytes, Device device = Device::cpu);
  ~Storage();
  Storage(const Storage&) = delete;
  Storage& operator=(const Storage&) = delete;

  void* data() const { return data_; }
  size_t bytes() const { return bytes_; }
  Device device() const { return device_; }
  /// How often what it holds was changed in place, as far as anyone has counted.
  int64_t version() const { return version_.load(std::memory_order_relaxed); }
  void count_change() { version_.fetch_add(1, std::memory_order_relaxed); }

 private:
  std::atomic<int64_t> version_ = 0;
  void* data_ = nullptr;
  size_t bytes_ = 0, capacity_ = 0;
  std::shared_ptr<MemoryPool::Cache> cache_;
  Device device_;
};

/// Of one device, outside of MemoryPools.
MemoryStats memory_stats(Device device = Device::cpu);
void reset_peak_memory(Device device = Device::cpu);
/// Gives the memory in which no block is live back to the system.
void empty_cache(Device device = Device::cpu);

}  // namespace weft
