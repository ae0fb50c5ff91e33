// Options that blocks of layers are made with; not part of the public API.
#pragma once

#include "weft/layers/batch_norm.h"
#include "weft/layers/conv2d.h"

namespace weft {

/// A convolution in front of a batch norm, without bias, which with stride 1 keeps the size.
inline Conv2dLayerOptions same(int64_t kernel, int64_t stride = 1) {
  return {.kernel = kernel, .stride = stride, .padding = kernel / 2, .bias = false};
}

/// A batch norm with the activation of a block's options.
template <class Options>
BatchNormOptions activated(const Options& o) {
  return {.activation = o.activation, .activation_param = o.activation_param};
}

}  // namespace weft
