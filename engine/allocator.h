// Memory of tensors: 64-byte aligned blocks out of large segments, kept for reuse, because a training step
// asks for the same sizes again and again and fresh pages cost a fault each.
#pragma once

#include <cstddef>
#include <memory>

namespace weft {

/// A block of memory that returns to the cache when it is destroyed.
class Storage {
 public:
  /// Uninitialised memory. Throws OutOfMemoryError, after giving the cache back to the system and trying
  /// again.
  explicit Storage(size_t bytes);
  ~Storage();
  Storage(const Storage&) = delete;
  Storage& operator=(const Storage&) = delete;

  void* data() const { return data_; }
  size_t bytes() const { return bytes_; }

 private:
  void* data_ = nullptr;
  size_t bytes_ = 0, capacity_ = 0;
};

struct MemoryStats {
  size_t in_use = 0;  ///< bytes in live blocks
  size_t peak = 0;    ///< the most that was in use since the last reset
  size_t cached = 0;  ///< bytes kept for reuse
};
MemoryStats memory_stats();
void reset_peak_memory();
/// Gives the memory in which no block is live back to the system.
void empty_cache();

}  // namespace weft
