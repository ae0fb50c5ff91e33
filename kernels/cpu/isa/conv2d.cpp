#include "weft/kernels/cpu/isa/conv2d.h"

namespace weft::kernels::WEFT_ISA {
namespace {

/// The algorithm for this geometry and pass: the first that suits it.
const Convolution& choose(const Conv2dParams& p, ConvPass pass) {
  if (depthwise_convolution().suits(p, pass)) return depthwise_convolution();
  return direct_convolution();
}

}  // namespace

int64_t conv2d_workspace(const Conv2dParams& p, ConvPass pass) { return choose(p, pass).workspace(p, pass); }

void conv2d_forward(const Conv2dParams& p, const float* x, const float* w, const float* bias, float* y,
                    void* workspace) {
  choose(p, ConvPass::forward).forward(p, x, w, bias, y, static_cast<float*>(workspace));
}

void conv2d_backward_input(const Conv2dParams& p, const float* dy, const float* w, float* dx,
                           void* workspace) {
  choose(p, ConvPass::backward_input).backward_input(p, dy, w, dx, static_cast<float*>(workspace));
}

void conv2d_backward_weight(const Conv2dParams& p, const float* x, const float* dy, float* dw,
                            void* workspace) {
  choose(p, ConvPass::backward_weight).backward_weight(p, x, dy, dw, static_cast<float*>(workspace));
}

}  // namespace weft::kernels::WEFT_ISA
