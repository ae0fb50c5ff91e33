#include "weft/kernels/cpu/scratch.h"

#include <cstddef>
#include <new>

namespace weft::kernels {
namespace {

float* allocate(int64_t count) {
  return static_cast<float*>(::operator new(size_t(count) * sizeof(float), std::align_val_t(64)));
}
void release(float* p) { ::operator delete(p, std::align_val_t(64)); }

/// A block that a thread keeps for its next task: fresh pages would cost a fault each.
struct Kept {
  float* block = nullptr;
  int64_t count = 0;
  bool used = false;
  ~Kept() { release(block); }
};
// For blocks that live at the same time.
constexpr int kSlots = 3;
thread_local Kept kept[kSlots];
// Larger blocks are not kept.
constexpr int64_t kMostKept = int64_t{1} << 20;

}  // namespace

float* allocate_scratch(int64_t count) {
  if (count > kMostKept) return allocate(count);
  // A free block that is large enough, else the largest free one, which grows.
  Kept* best = nullptr;
  for (Kept& k : kept)
    if (!k.used &&
        (!best || (k.count >= count ? best->count < count || k.count < best->count : k.count > best->count)))
      best = &k;
  if (!best) return allocate(count);
  if (count > best->count) {
    release(best->block);
    best->block = nullptr, best->count = 0;
    best->block = allocate(count);
    best->count = count;
  }
  best->used = true;
  return best->block;
}

void free_scratch(float* p) {
  for (Kept& k : kept)
    if (k.used && k.block == p) {
      k.used = false;
      return;
    }
  release(p);
}

}  // namespace weft::kernels
