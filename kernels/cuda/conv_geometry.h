// What kernels for convolutions ask of their geometry.
#pragma once

#include "weft/kernels/kernels.h"

namespace weft::kernels::cuda {

/// Whether a convolution is a matrix product as it stands: a 1x1 filter with step 1.
inline bool is_product(const Conv2dParams& p) {
  return p.kernel_h == 1 && p.kernel_w == 1 && p.stride_h == 1 && p.stride_w == 1 && p.pad_h == 0 &&
         p.pad_w == 0 && p.groups == 1;
}
/// Pixels of y.
inline int64_t pixels_of(const Conv2dParams& p) { return p.batch * p.out_h() * p.out_w(); }
/// Weights of an output channel, without groups.
inline int64_t weights_of(const Conv2dParams& p) { return p.kernel_h * p.kernel_w * p.in_c; }

/// A convolution without groups whose x is seen as rows of in_w * in_c elements.
struct RowGeometry {
  int H, row, C, kernel_w, weights;
  int sh, step, ph, left, dh, dw;  // step, left: stride and padding along a row, in elements

  explicit RowGeometry(const Conv2dParams& p)
      : H(int(p.in_h)),
        row(int(p.in_w * p.in_c)),
        C(int(p.in_c)),
        kernel_w(int(p.kernel_w)),
        weights(int(weights_of(p))),
        sh(int(p.stride_h)),
        step(int(p.stride_w * p.in_c)),
        ph(int(p.pad_h)),
        left(int(p.pad_w * p.in_c)),
        dh(int(p.dilation_h)),
        dw(int(p.dilation_w)) {}
};

}  // namespace weft::kernels::cuda
