// Pieces of batches, and their form for a module; not part of the public API.
#pragma once

#include <cstring>

#include "weft/engine/batches.h"
#include "weft/engine/module.h"
#include "weft/kernels/cuda.h"

namespace weft::training {

/// Rows [begin, begin + n) of x as a tensor of their own.
inline Tensor rows(const Tensor& x, int64_t begin, int64_t n) {
  if (begin == 0 && n == x.size(0)) return x;
  Shape shape = x.shape();
  shape.set(0, n);
  const Tensor y = Tensor::empty(shape, x.dtype(), x.device());
  const char* from = static_cast<const char*>(x.raw()) + begin * (x.bytes() / x.size(0));
  if (x.device() == Device::cuda)
    kernels::cuda::copy(y.raw(), from, y.bytes());
  else
    std::memcpy(y.raw(), from, size_t(y.bytes()));
  return y;
}

/// f32 in the type that the module is to compute in; all else as it is.
inline Tensor input_of(const Tensor& x, DType dtype) {
  return is_half(dtype) && x.dtype() == DType::f32 ? x.to(dtype) : x;
}

/// Whether y is labels [N] of the classes of prediction [N, C].
inline bool are_labels(const Tensor& prediction, const Tensor& y) {
  return prediction.ndim() == 2 && y.ndim() == 1 && y.dtype() == DType::i64 &&
         y.size(0) == prediction.size(0);
}

/// Where the parameters are.
inline Device device_of(const Module& module) {
  const std::vector<Parameter> parameters = module.parameters();
  check(!parameters.empty(), "trainer: the module has no parameters");
  return parameters.front().tensor.device();
}

}  // namespace weft::training
