// Convolution algorithms of the CPU. conv2d.cpp chooses one for each (geometry, pass) and is the only place
// that does.
#pragma once

#include "weft/kernels/convolution.h"
#include "weft/kernels/cpu/isa/epilogue.h"
#include "weft/kernels/cpu/isa/kernels.h"
#include "weft/kernels/cpu/isa/pairs.h"
#include "weft/kernels/cpu/isa/vec.h"

namespace weft::kernels::WEFT_ISA {

/// One algorithm: the scratch that it needs, and the passes.
struct Convolution {
  int64_t (*workspace)(const Conv2dParams& p, ConvPass pass);  // bytes
  void (*forward)(const Conv2dParams& p, const float* x, const float* w, const float* bias, float* y,
                  const Epilogue& epilogue, float* workspace);
  void (*backward_input)(const Conv2dParams& p, const float* dy, const float* w, float* dx, float* workspace);
  void (*backward_weight)(const Conv2dParams& p, const float* x, const float* dy, float* dw,
                          float* workspace);
};

/// Any geometry: register tiles straight on the images, no copies of them.
const Convolution& direct_convolution();
/// Groups of one input channel: tiles of pixels that walk along the channels.
const Convolution& depthwise_convolution();
bool depthwise_suits(const Conv2dParams& p);
/// Few input channels, or groups of few channels: on padded copies of rows.
const Convolution& row_convolution();
bool rows_suit(const Conv2dParams& p, ConvPass pass);
/// One group, few output channels (input channels for their gradient) or few pixels: lanes over what is
/// summed up.
const Convolution& few_convolution();
bool few_suit(const Conv2dParams& p, ConvPass pass);
/// 3x3 by Winograd's F(tile x tile, 3x3): 2, 3 or 4 with stride 1, 4 with stride 2 and a padding of 1.
const Convolution& winograd_convolution(const Conv2dParams& p, int64_t tile);
bool winograd_suits(const Conv2dParams& p, int64_t tile = 4);

/// Whether the direct convolution computes a pass on pairs of bf16 (pairs.h).
WEFT_INLINE bool pairs_suit(const Conv2dParams& p, ConvPass pass) {
  constexpr int64_t kLeast = 16;
  const int64_t in_c = p.in_c / p.groups, out_c = p.out_c / p.groups;
  return kPairs && p.bf16 && in_c >= kLeast && out_c >= kLeast &&
         (pass == ConvPass::backward_weight ? in_c % kWidth == 0 : in_c % 2 == 0 && out_c % 2 == 0);
}

/// Estimates of a pass, in multiply-adds of whole vectors; F(tile x tile, 3 x 3). few_convolution() has no
/// weight gradient of its own.
double direct_cost(const Conv2dParams& p, ConvPass pass, bool packed = false);
double winograd_cost(const Conv2dParams& p, ConvPass pass, int64_t tile);
double few_cost(const Conv2dParams& p, ConvPass pass);

/// The outputs [begin, end) of an axis at which tap k lies inside of the image.
struct TapRange {
  int64_t begin, end;
};
WEFT_INLINE TapRange tap_range(int64_t in, int64_t out, int64_t stride, int64_t pad, int64_t dilation,
                               int64_t k) {
  const int64_t shift = k * dilation - pad;  // the input of output 0
  return {shift >= 0 ? 0 : ceil_div(-shift, stride),
          in - shift <= 0 ? 0 : smaller(out, ceil_div(in - shift, stride))};
}

/// The weights of direct_convolution() packed for its forward pass: floats that they take, and the pass.
int64_t direct_packed_floats(const Conv2dParams& p);
void direct_pack(const Conv2dParams& p, const float* w, float* packed);
void direct_forward_packed(const Conv2dParams& p, const float* x, const float* packed, const float* bias,
                           float* y, const Epilogue& epilogue);

/// The direct weight gradient; conv2d_weight.cpp.
int64_t direct_weight_workspace(const Conv2dParams& p);
void direct_backward_weight(const Conv2dParams& p, const float* x, const float* dy, float* dw,
                            float* workspace);

/// The geometry whose forward pass does the arithmetic of this pass: an input gradient's has the channels
/// exchanged.
WEFT_INLINE Conv2dParams as_forward(Conv2dParams p, ConvPass pass) {
  if (pass == ConvPass::backward_input) {
    const int64_t in_c = p.in_c;
    p.in_c = p.out_c, p.out_c = in_c;
  }
  return p;
}

// As Conv2dParams::out_h and out_w, which are inline functions that other files share (see kernels.h).
WEFT_INLINE int64_t out_h(const Conv2dParams& p) {
  return (p.in_h + 2 * p.pad_h - p.dilation_h * (p.kernel_h - 1) - 1) / p.stride_h + 1;
}
WEFT_INLINE int64_t out_w(const Conv2dParams& p) {
  return (p.in_w + 2 * p.pad_w - p.dilation_w * (p.kernel_w - 1) - 1) / p.stride_w + 1;
}

}  // namespace weft::kernels::WEFT_ISA
