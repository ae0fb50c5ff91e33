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
#include "weft/kernels/cuda.h"

namespace weft {
namespace {

// A segment is asked for at once, but the system backs only the pages of the CPU's memory that have been
// touched. Where a tool watches each access, each block has a segment of its own, so that it sees where a
// kernel leaves its tensor: under AddressSanitizer, and for compute-sanitizer where WEFT_CUDA_MEMCHECK is
// set.
size_t segment_of(Device device) {
#ifdef __SANITIZE_ADDRESS__
  return 0;
#endif
  return device == Device::cuda && std::getenv("WEFT_CUDA_MEMCHECK") ? 0 : size_t{256} << 20;
}
constexpr size_t kHugePage = size_t{2} << 20;

/// Memory from the system, for the CPU or for a GPU; null where it can't be had.
char* take_segment(Device device, size_t bytes, size_t align) {
  if (device == Device::cuda) return static_cast<char*>(kernels::cuda::allocate(int64_t(bytes)));
  char* begin = static_cast<char*>(std::aligned_alloc(align, (bytes + align - 1) / align * align));
#ifdef __linux__
  if (begin && align == kHugePage) madvise(begin, bytes, MADV_HUGEPAGE);  // a hint: far fewer page faults
#endif
  return begin;
}
void give_segment(Device device, char* begin) {
  if (device == Device::cuda)
    kernels::cuda::release(begin);
  else
    std::free(begin);
}

/// Memory from the system: handed out from `begin` to `top` so far.
struct Segment {
  char *begin, *top, *end;
};

/// Best fit with merging of neighbours. A training step takes blocks on its way forward and returns them on
/// its way back; what lies side by side becomes one again, so that the next, other size finds its place.
class Heap {
 public:
  explicit Heap(Device device) : device_(device), segment_(segment_of(device)) {}
  ~Heap() { trim(); }
  Heap(const Heap&) = delete;
  Heap& operator=(const Heap&) = delete;

  /// Blocks start at multiples of it.
  size_t align() const { return device_ == Device::cuda ? 256 : 64; }

  /// Null where memory can't be had.
  char* allocate(size_t bytes) {
    if (const auto fit = by_size_.lower_bound({bytes, nullptr}); fit != by_size_.end()) {
      const auto [size, block] = *fit;
      take(block);
      if (size > bytes) put(block + bytes, size - bytes);
      return block;
    }
    if (segment_)  // else all of them are handed out, and there may be very many
      for (Segment& s : segments_)
        if (char* block = extend(s, bytes)) return block;
    return add_segment(bytes > segment_ ? bytes : segment_) || add_segment(bytes)
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
      give_segment(device_, s.begin);
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
    char* begin = take_segment(device_, bytes + align(), bytes >= kHugePage ? kHugePage : align());
    if (!begin) return false;
    segments_.push_back({begin, begin, begin + bytes});
    return true;
  }

  const Device device_;
  const size_t segment_;
  std::vector<Segment> segments_;
  std::map<char*, size_t> free_;
  std::set<std::pair<size_t, char*>> by_size_;
  size_t cached_ = 0;
};

}  // namespace

struct MemoryPool::Cache {
  explicit Cache(Device device) : heap(device) {}
  std::mutex mutex;
  Heap heap;
  MemoryStats stats;
  bool captured = false;  // work of a graph is in it: then all of its segments stay, in use or not
};

namespace {

using CachePointer = std::shared_ptr<MemoryPool::Cache>;

// Never destroyed: tensors with static lifetime may outlive every other static object.
const CachePointer& default_cache(Device device) {
  static const CachePointer* cpu = new CachePointer(std::make_shared<MemoryPool::Cache>(Device::cpu));
  static const CachePointer* cuda = [] {
    kernels::cuda::set_reclaim([] { empty_cache(Device::cuda); });
    return new CachePointer(std::make_shared<MemoryPool::Cache>(Device::cuda));
  }();
  return device == Device::cuda ? *cuda : *cpu;
}

/// The pool that this thread's memory comes from, by device; null for the default.
CachePointer& pool_in_use(Device device) {
  thread_local CachePointer pools[2];
  return pools[size_t(device)];
}

}  // namespace

MemoryPool::MemoryPool(Device device) : cache_(std::make_shared<Cache>(device)), device_(device) {}
MemoryPool::Use::Use(const MemoryPool& pool)
    : before_(std::exchange(pool_in_use(pool.device_), pool.cache_)), device_(pool.device_) {}
MemoryPool::Use::~Use() { pool_in_use(device_) = before_; }

Storage::Storage(size_t bytes, Device device) : bytes_(bytes), device_(device) {
  const CachePointer& pool = pool_in_use(device);
  cache_ = pool ? pool : default_cache(device);
  MemoryPool::Cache& c = *cache_;
  const std::lock_guard lock(c.mutex);
  check(bytes < (size_t{1} << 62), "memory: a tensor of ", bytes, " bytes was asked for");
  const size_t align = c.heap.align();
  capacity_ = (bytes + align - 1) / align * align + (bytes ? 0 : align);
  const bool capturing = device == Device::cuda && kernels::cuda::capturing();
  if (pool && capturing) c.captured = true;
  data_ = c.heap.allocate(capacity_);
  if (!data_ && !capturing) {  // freeing memory of a GPU waits for it, and within a capture nothing can
    if (!c.captured) c.heap.trim();
    if (pool) empty_cache(device);
    data_ = c.heap.allocate(capacity_);
  }
  if (!data_)
    throw OutOfMemoryError(concat("memory: ", bytes, " bytes ", device == Device::cuda ? "of the GPU " : "",
                                  "could not be had (", c.stats.in_use,
                                  " bytes are in use by tensors); use a smaller batch or image size"));
  c.stats.in_use += capacity_;
  if (c.stats.in_use > c.stats.peak) c.stats.peak = c.stats.in_use;
}

Storage::~Storage() {
  const std::lock_guard lock(cache_->mutex);
  cache_->stats.in_use -= capacity_;
  cache_->heap.release(static_cast<char*>(data_), capacity_);
}

namespace {

MemoryStats stats_of(MemoryPool::Cache& c) {
  const std::lock_guard lock(c.mutex);
  MemoryStats stats = c.stats;
  stats.cached = c.heap.cached();
  return stats;
}

}  // namespace

MemoryStats MemoryPool::stats() const { return stats_of(*cache_); }

void MemoryPool::forget_capture() const {
  const std::lock_guard lock(cache_->mutex);
  if (std::exchange(cache_->captured, false)) cache_->heap.trim();
}

MemoryStats memory_stats(Device device) { return stats_of(*default_cache(device)); }

void reset_peak_memory(Device device) {
  MemoryPool::Cache& c = *default_cache(device);
  const std::lock_guard lock(c.mutex);
  c.stats.peak = c.stats.in_use;
}

void empty_cache(Device device) {
  MemoryPool::Cache& c = *default_cache(device);
  const std::lock_guard lock(c.mutex);
  c.heap.trim();
}

}  // namespace weft
