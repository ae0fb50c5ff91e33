#include "weft/engine/allocator.h"

#include <cstdlib>
#include <map>
#include <mutex>
#include <vector>

#include "weft/engine/error.h"

namespace weft {
namespace {

struct Cache {
  std::mutex mutex;
  std::map<size_t, std::vector<void*>> free;  // by capacity
  MemoryStats stats;

  void release_all() {
    for (auto& [capacity, blocks] : free)
      for (void* block : blocks) std::free(block);
    free.clear();
    stats.cached = 0;
  }
};

// Never destroyed: tensors with static lifetime may outlive every other static object.
Cache& cache() {
  static Cache* c = new Cache;
  return *c;
}

// Eight size classes for each power of two: at most 12.5 % is lost, and nearby sizes share blocks.
size_t round_up(size_t bytes) {
  size_t step = 64;
  while (step * 16 <= bytes) step *= 2;
  return (bytes + step - 1) / step * step;
}

}  // namespace

Storage::Storage(size_t bytes) : bytes_(bytes) {
  Cache& c = cache();
  const std::lock_guard lock(c.mutex);
  check(bytes < (size_t{1} << 62), "memory: a tensor of ", bytes, " bytes was asked for");
  capacity_ = round_up(bytes ? bytes : 1);
  // The best fit that wastes at most a quarter.
  auto fit = c.free.lower_bound(capacity_);
  if (fit != c.free.end() && fit->first <= capacity_ + capacity_ / 4) {
    capacity_ = fit->first;
    data_ = fit->second.back();
    fit->second.pop_back();
    if (fit->second.empty()) c.free.erase(fit);
    c.stats.cached -= capacity_;
  } else {
    data_ = std::aligned_alloc(64, capacity_);
    if (!data_) {
      c.release_all();
      data_ = std::aligned_alloc(64, capacity_);
    }
    if (!data_)
      throw OutOfMemoryError(concat("memory: ", bytes, " bytes could not be had (", c.stats.in_use,
                                    " bytes are in use by tensors); use a smaller batch or image size"));
  }
  c.stats.in_use += capacity_;
  if (c.stats.in_use > c.stats.peak) c.stats.peak = c.stats.in_use;
}

Storage::~Storage() {
  Cache& c = cache();
  const std::lock_guard lock(c.mutex);
  c.stats.in_use -= capacity_;
  c.stats.cached += capacity_;
  c.free[capacity_].push_back(data_);
}

MemoryStats memory_stats() {
  const std::lock_guard lock(cache().mutex);
  return cache().stats;
}

void reset_peak_memory() {
  const std::lock_guard lock(cache().mutex);
  cache().stats.peak = cache().stats.in_use;
}

void empty_cache() {
  const std::lock_guard lock(cache().mutex);
  cache().release_all();
}

}  // namespace weft
