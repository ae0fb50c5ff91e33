#pragma once

#include <algorithm>
#include <mutex>
#include <utility>
#include <vector>

#include "weft/engine/tensor.h"
#include "weft/kernels/cuda.h"

namespace weft {

/// A constant that a layer computes with, made for each dtype, device and size of the input when it is first
/// needed.
class CachedConstant {
 public:
  /// The constant in the dtype and on the device of `like`. make() gives it in any; `size` is what it depends
  /// on. Several threads may ask at the same time.
  template <class Make>
  Tensor get(const Tensor& like, const Shape& size, const Make& make) {
    const std::lock_guard lock(mutex_);
    auto found = std::find_if(made_.begin(), made_.end(), [&](const auto& of) {
      return of.first == size && of.second.dtype() == like.dtype() && of.second.device() == like.device();
    });
    if (found == made_.end()) {
      Tensor value = make().to(like.dtype()).to(like.device());
      if (made_.size() == kMost) made_.pop_back();
      found = made_.insert(made_.end(), {size, std::move(value)});
    }
    std::rotate(made_.begin(), found, found + 1);  // the last used comes first
    Tensor value = made_.front().second;
    // The captured step will read this memory in each of its launches.
    if (kernels::cuda::capturing() && (captured_.empty() || captured_.back().raw() != value.raw()))
      captured_.push_back(value);
    return value;
  }

 private:
  /// A step is captured after eager ones of its size, for it can't make the constant: what comes between, as
  /// a validation at other sizes, must not take it away.
  static constexpr size_t kMost = 16;

  std::mutex mutex_;
  std::vector<std::pair<Shape, Tensor>> made_;
  std::vector<Tensor> captured_;
};

}  // namespace weft
