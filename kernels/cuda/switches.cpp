// The switches of kernels/cuda.h.
#include <atomic>
#include <mutex>
#include <string>
#include <utility>

#include "weft/kernels/cuda.h"

namespace weft::kernels::cuda {
namespace {

std::atomic<bool> same_bits{false}, autotune{true};

struct Folder {
  std::mutex mutex;
  std::string path;
};
Folder& folder() {
  static Folder f;
  return f;
}

}  // namespace

bool deterministic() { return same_bits; }
void set_deterministic(bool on) { same_bits = on; }
bool conv_autotune() { return autotune; }
void set_conv_autotune(bool on) { autotune = on; }

std::string plan_cache_folder() {
  const std::lock_guard lock(folder().mutex);
  return folder().path;
}
void set_plan_cache_folder(std::string path) {
  const std::lock_guard lock(folder().mutex);
  folder().path = std::move(path);
}

}  // namespace weft::kernels::cuda
