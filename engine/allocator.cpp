#include "weft/engine/allocator.h"

#include <cstdint>
#include <cstdlib>
#include <map>
#include <mutex>
#include <set>
#include <utility>
#include <vector>

#ifdef __linux__
#include <sys/mman.h>
#endif

#include "weft/engine/error.h"

namespace weft {
namespace {

// A segment is asked for at once, but the system backs only the pages that have been touched. Under
// AddressSanitizer each block has a segment of its own, so that it sees where a kernel leaves its tensor.
#ifdef __SANITIZE_ADDRESS__
constexpr size_t kSegment = 0;
#else
constexpr size_t kSegment = size_t{256} << 20;
#endif
constexpr size_t kAlign = 64, kHugePage = size_t{2} << 20;

/// Memory from the system: handed out from `begin` to `top` so far.
struct Segment {
  char *begin, *top, *end;
};

/// Best fit with merging of neighbours. A training step takes blocks on its way forward and returns them on
/// its way back; what lies side by side becomes one again, so that the next, other size finds its place.
class Heap {
 public:
  /// Null where memory can't be had.
  char* allocate(size_t bytes) {
    if (const auto fit = by_size_.lower_bound({bytes, nullptr}); fit != by_size_.end()) {
      const auto [size, block] = *fit;
      take(block);
      if (size > bytes) put(block + bytes, size - bytes);
      return block;
    }
    for (Segment& s : segments_)
      if (char* block = extend(s, bytes)) return block;
    return add_segment(bytes > kSegment ? bytes : kSegment) || add_segment(bytes)
               ? extend(segments_.back(), bytes)
               : nullptr;
  }

  void release(char* block, size_t bytes) {
    // The pad after each segment keeps blocks of two segments apart.
    auto next = free_.upper_bound(block);
    if (next != free_.end() && next->first == block + bytes) {
      bytes += next->second;
      take(next->first);
    }
    next = free_.upper_bound(block);
    if (next != free_.begin()) {
      const auto [before, size] = *std::prev(next);
      if (before + size == block) {
        take(before);
        block = before;
        bytes += size;
      }
    }
    put(block, bytes);
  }

  /// Gives back the segments of which no part is in use.
  void trim() {
    std::erase_if(segments_, [&](const Segment& s) {
      const auto block = free_.find(s.begin);
      const bool unused = s.top == s.begin || (block != free_.end() && s.begin + block->second == s.top);
      if (!unused) return false;
      if (s.top != s.begin) take(s.begin);
      std::free(s.begin);
      return true;
    });
  }

  size_t cached() const { return cached_; }

 private:
  void put(char* block, size_t bytes) {
    free_.emplace(block, bytes);
    by_size_.emplace(bytes, block);
    cached_ += bytes;
  }
  void take(char* block) {
    const auto found = free_.find(block);
    by_size_.erase({found->second, block});
    cached_ -= found->second;
    free_.erase(found);
  }

  /// A block at the end of what the segment has handed out, with the free one that may lie there.
  char* extend(Segment& s, size_t bytes) {
    char* block = s.top;
    const auto after = free_.lower_bound(s.top);
    if (after != free_.begin())
      if (const auto [before, size] = *std::prev(after); before + size == s.top) block = before;
    if (size_t(s.end - block) < bytes) return nullptr;
    if (block != s.top) take(block);
    s.top = block + bytes;
    return block;
  }

  bool add_segment(size_t bytes) {
    const size_t align = bytes >= kHugePage ? kHugePage : kAlign;
    char* begin = static_cast<char*>(std::aligned_alloc(align, (bytes + kAlign + align - 1) / align * align));
    if (!begin) return false;
#ifdef __linux__
    if (align == kHugePage) madvise(begin, bytes, MADV_HUGEPAGE);  // a hint: far fewer page faults
#endif
    segments_.push_back({begin, begin, begin + bytes});
    return true;
  }

  std::vector<Segment> segments_;
  std::map<char*, size_t> free_;
  std::set<std::pair<size_t, char*>> by_size_;
  size_t cached_ = 0;
};

struct Cache {
  std::mutex mutex;
  Heap heap;
  MemoryStats stats;
};

// Never destroyed: tensors with static lifetime may outlive every other static object.
Cache& cache() {
  static Cache* c = new Cache;
  return *c;
}

}  // namespace

Storage::Storage(size_t bytes) : bytes_(bytes) {
  Cache& c = cache();
  const std::lock_guard lock(c.mutex);
  check(bytes < (size_t{1} << 62), "memory: a tensor of ", bytes, " bytes was asked for");
  capacity_ = (bytes + kAlign - 1) / kAlign * kAlign + (bytes ? 0 : kAlign);
  data_ = c.heap.allocate(capacity_);
  if (!data_) {
    c.heap.trim();
    data_ = c.heap.allocate(capacity_);
  }
  if (!data_)
    throw OutOfMemoryError(concat("memory: ", bytes, " bytes could not be had (", c.stats.in_use,
                                  " bytes are in use by tensors); use a smaller batch or image size"));
  c.stats.in_use += capacity_;
  if (c.stats.in_use > c.stats.peak) c.stats.peak = c.stats.in_use;
}

Storage::~Storage() {
  Cache& c = cache();
  const std::lock_guard lock(c.mutex);
  c.stats.in_use -= capacity_;
  c.heap.release(static_cast<char*>(data_), capacity_);
}

MemoryStats memory_stats() {
  const std::lock_guard lock(cache().mutex);
  MemoryStats stats = cache().stats;
  stats.cached = cache().heap.cached();
  return stats;
}

void reset_peak_memory() {
  const std::lock_guard lock(cache().mutex);
  cache().stats.peak = cache().stats.in_use;
}

void empty_cache() {
  const std::lock_guard lock(cache().mutex);
  cache().heap.trim();
}

}  // namespace weft
