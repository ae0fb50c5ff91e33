#include "weft/layers/sequential.h"

namespace weft {

Tensor Sequential::forward(const Tensor& x) {
  Tensor y = x;
  for (const auto& layer : layers_) y = (*layer)(y);
  return y;
}

Module& Sequential::operator[](size_t i) const {
  check(i < layers_.size(), "Sequential: layer ", i, " asked for, but it has ", layers_.size());
  return *layers_[i];
}

}  // namespace weft
