#include "weft/kernels/cpu/scratch.h"

#include <cstddef>
#include <new>

namespace weft::kernels {
namespace {

float* allocate(int64_t count) {
  return static_cast<float*>(::operator new(size_t(count) * sizeof(float), std::align_val_t(64)));
}
void release(float* p) { ::operator delete(p, std::align_val_t(64)); }

/// The block that a thread keeps for its next task: fresh pages would cost a fault each.
struct Kept {
  float* block = nullptr;
  int64_t count = 0;
  bool used = false;
  ~Kept() { release(block); }
};
thread_local Kept kept;
// Larger blocks are not kept.
constexpr int64_t kMostKept = int64_t{1} << 20;

}  // namespace

float* allocate_scratch(int64_t count) {
  if (kept.used || count > kMostKept) return allocate(count);
  if (count > kept.count) {
    release(kept.block);
    kept.block = nullptr, kept.count = 0;
    kept.block = allocate(count);
    kept.count = count;
  }
  kept.used = true;
  return kept.block;
}

void free_scratch(float* p) {
  if (p == kept.block)
    kept.used = false;
  else
    release(p);
}

}  // namespace weft::kernels
