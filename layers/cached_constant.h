#pragma once

#include <vector>

#include "weft/engine/tensor.h"
#include "weft/kernels/cuda.h"

namespace weft {

/// A constant that a layer computes with: made when it is first needed, and made again for input of another
/// dtype, device or size.
class CachedConstant {
 public:
  /// The constant in the dtype and on the device of `like`. make() gives it in any; `size` is what it depends
  /// on.
  template <class Make>
  const Tensor& get(const Tensor& like, const Shape& size, const Make& make) {
    if (!(value_.defined() && size_ == size && value_.dtype() == like.dtype() &&
          value_.device() == like.device())) {
      value_ = make().to(like.dtype()).to(like.device());
      size_ = size;
    }
    // The captured step will read this memory in each of its launches.
    if (kernels::cuda::capturing() && (captured_.empty() || captured_.back().raw() != value_.raw()))
      captured_.push_back(value_);
    return value_;
  }

 private:
  Tensor value_;
  Shape size_;
  std::vector<Tensor> captured_;
};

}  // namespace weft
