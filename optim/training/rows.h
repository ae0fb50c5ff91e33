// Pieces of batches, and their form for a module; not part of the public API.
#pragma once

#include "weft/engine/anomaly.h"
#include "weft/engine/batches.h"
#include "weft/engine/module.h"
#include "weft/engine/ops/reduce.h"
#include "weft/engine/ops/shape.h"
#include "weft/engine/tape.h"

namespace weft::training {

/// Rows [begin, begin + n) of x as a tensor of their own.
inline Tensor rows(const Tensor& x, int64_t begin, int64_t n) {
  if (begin == 0 && n == x.size(0)) return x;
  const NoGrad quiet;
  const DetectAnomaly::Pause not_an_op;
  return narrow(x, 0, begin, n);
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

/// How many of the labels y are the class that prediction [N, C] has highest.
inline int64_t count_correct(const Tensor& prediction, const Tensor& y) {
  const std::vector<int64_t> guess = argmax(prediction).to_vector<int64_t>(), label = y.to_vector<int64_t>();
  int64_t correct = 0;
  for (size_t i = 0; i < label.size(); ++i) correct += guess[i] == label[i];
  return correct;
}

/// Where the parameters are.
inline Device device_of(const Module& module) {
  const std::vector<Parameter> parameters = module.parameters();
  check(!parameters.empty(), "trainer: the module has no parameters");
  return parameters.front().tensor.device();
}

}  // namespace weft::training
