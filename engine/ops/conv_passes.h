// Shared by the op files; not part of the public API.
//
// A convolution, its gradient with respect to the input and that with respect to the weight are three
// products of two among x, w and dy. Each is linear in both, and their gradients are the other two: the three
// functions call each other.
#pragma once

#include "weft/engine/tensor.h"
#include "weft/kernels/kernels.h"

namespace weft::ops {

/// Sets p's strides, paddings and dilations. padded_h, padded_w: the size of the image with its padding. It
/// must be one in which kernels can count; a step beyond it, which changes nothing, is made as long as it.
void set_steps(const char* op, double padded_h, double padded_w, int64_t stride, int64_t padding,
               int64_t dilation, kernels::Conv2dParams& p);

/// Without bias.
Tensor conv2d_forward(const kernels::Conv2dParams& p, const Tensor& x, const Tensor& w);
/// `name`: what the tape calls it.
Tensor conv2d_backward_input(const kernels::Conv2dParams& p, const Tensor& dy, const Tensor& w,
                             const char* name = "conv2d_backward_input");
Tensor conv2d_backward_weight(const kernels::Conv2dParams& p, const Tensor& x, const Tensor& dy);

}  // namespace weft::ops
