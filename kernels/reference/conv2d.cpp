// y[n][oh][ow][oc] = bias[oc] + sum over kh, kw, ic of x[n][ih][iw][first(oc) + ic] * w[oc][kh][kw][ic],
//   ih = oh * stride_h - pad_h + kh * dilation_h, likewise iw; x is 0 outside of the image;
//   group g joins its in_c / groups input channels to its out_c / groups output channels; first(oc) is the
//   group's first.
// The backward passes are the same sum, read for x and for w. Each task owns the outputs that it writes.
#include "weft/kernels/convolution.h"
#include "weft/kernels/parallel.h"
#include "weft/kernels/reference/families.h"

namespace weft::kernels::plain {
namespace {

int64_t no_workspace(const Conv2dParams&, ConvPass) { return 0; }

template <class T>
void conv2d_forward(const Conv2dParams& p, const T* x, const T* w, const T* bias, T* y, void*) {
  const int64_t OH = p.out_h(), OW = p.out_w(), IC = p.in_c / p.groups, OC = p.out_c / p.groups;
  parallel_for(p.batch * OH, [&](int64_t row) {
    const int64_t n = row / OH, oh = row % OH;
    for (int64_t ow = 0; ow < OW; ++ow)
      for (int64_t oc = 0; oc < p.out_c; ++oc) {
        double sum = bias ? double(bias[oc]) : 0;
        for (int64_t kh = 0; kh < p.kernel_h; ++kh)
          for (int64_t kw = 0; kw < p.kernel_w; ++kw) {
            const int64_t ih = oh * p.stride_h - p.pad_h + kh * p.dilation_h;
            const int64_t iw = ow * p.stride_w - p.pad_w + kw * p.dilation_w;
            if (ih < 0 || ih >= p.in_h || iw < 0 || iw >= p.in_w) continue;
            const T* pixel = x + ((n * p.in_h + ih) * p.in_w + iw) * p.in_c + oc / OC * IC;
            const T* tap = w + ((oc * p.kernel_h + kh) * p.kernel_w + kw) * IC;
            for (int64_t ic = 0; ic < IC; ++ic) sum += double(pixel[ic]) * double(tap[ic]);
          }
        y[(row * OW + ow) * p.out_c + oc] = T(sum);
      }
  });
}

/// The outputs that input (ih, iw) reached through tap (kh, kw): at most one per tap, oh * stride = ih + pad
/// - kh * dilation.
template <class T>
void conv2d_backward_input(const Conv2dParams& p, const T* dy, const T* w, T* dx, void*) {
  const int64_t OH = p.out_h(), OW = p.out_w(), IC = p.in_c / p.groups, OC = p.out_c / p.groups;
  parallel_for(p.batch * p.in_h, [&](int64_t row) {
    const int64_t n = row / p.in_h, ih = row % p.in_h;
    for (int64_t iw = 0; iw < p.in_w; ++iw)
      for (int64_t c = 0; c < p.in_c; ++c) {
        const int64_t group = c / IC, ic = c % IC;
        double sum = 0;
        for (int64_t kh = 0; kh < p.kernel_h; ++kh)
          for (int64_t kw = 0; kw < p.kernel_w; ++kw) {
            const int64_t h = ih + p.pad_h - kh * p.dilation_h, v = iw + p.pad_w - kw * p.dilation_w;
            if (h < 0 || h % p.stride_h != 0 || h / p.stride_h >= OH) continue;
            if (v < 0 || v % p.stride_w != 0 || v / p.stride_w >= OW) continue;
            const T* pixel = dy + ((n * OH + h / p.stride_h) * OW + v / p.stride_w) * p.out_c;
            for (int64_t oc = group * OC; oc < (group + 1) * OC; ++oc)
              sum += double(pixel[oc]) * double(w[((oc * p.kernel_h + kh) * p.kernel_w + kw) * IC + ic]);
          }
        dx[(row * p.in_w + iw) * p.in_c + c] = T(sum);
      }
  });
}

template <class T>
void conv2d_backward_weight(const Conv2dParams& p, const T* x, const T* dy, T* dw, void*) {
  const int64_t OH = p.out_h(), OW = p.out_w(), IC = p.in_c / p.groups, OC = p.out_c / p.groups;
  parallel_for(p.out_c, [&](int64_t oc) {
    for (int64_t kh = 0; kh < p.kernel_h; ++kh)
      for (int64_t kw = 0; kw < p.kernel_w; ++kw)
        for (int64_t ic = 0; ic < IC; ++ic) {
          double sum = 0;
          for (int64_t n = 0; n < p.batch; ++n)
            for (int64_t oh = 0; oh < OH; ++oh)
              for (int64_t ow = 0; ow < OW; ++ow) {
                const int64_t ih = oh * p.stride_h - p.pad_h + kh * p.dilation_h;
                const int64_t iw = ow * p.stride_w - p.pad_w + kw * p.dilation_w;
                if (ih < 0 || ih >= p.in_h || iw < 0 || iw >= p.in_w) continue;
                sum += double(dy[((n * OH + oh) * OW + ow) * p.out_c + oc]) *
                       double(x[((n * p.in_h + ih) * p.in_w + iw) * p.in_c + oc / OC * IC + ic]);
              }
          dw[((oc * p.kernel_h + kh) * p.kernel_w + kw) * IC + ic] = T(sum);
        }
  });
}

template <class T>
bool conv2d_forward_stats(const Conv2dParams& p, const T* x, const T* w, const T* bias, T* y, T* mean, T* var,
                          void*) {
  conv2d_forward(p, x, w, bias, y, nullptr);
  reference<T>().batch_norm_stats(p.batch * p.out_h() * p.out_w(), p.out_c, y, mean, var);
  return true;
}

}  // namespace

template <class T>
void set_conv2d(KernelTable<T>& table) {
  table.conv2d_algorithm = [](const Conv2dParams&, ConvPass) { return ConvAlgorithm::direct; };
  table.conv2d_workspace = no_workspace;
  table.conv2d_forward = conv2d_forward<T>;
  table.conv2d_forward_stats = conv2d_forward_stats<T>;
  table.conv2d_backward_input = conv2d_backward_input<T>;
  table.conv2d_backward_weight = conv2d_backward_weight<T>;
}

template void set_conv2d(KernelTable<float>&);
template void set_conv2d(KernelTable<double>&);

}  // namespace weft::kernels::plain
