// Every window is expected to hold a cell of the image, which padding <= kernel / 2 and PyTorch's output
// sizes ensure.
#include <algorithm>
#include <limits>

#include "weft/kernels/reference/families.h"

namespace weft::kernels::plain {
namespace {

/// The cells [h0, h1) x [w0, w1) of the image under one window, and how many the average divides by.
struct Window {
  int64_t h0, h1, w0, w1, divisor;
};

Window window(const Pool2dParams& p, int64_t oh, int64_t ow) {
  const int64_t h = oh * p.stride_h - p.pad_h, w = ow * p.stride_w - p.pad_w;
  // What hangs over the padded image is cut off before the cells are counted.
  const int64_t h_end = std::min(h + p.kernel_h, p.in_h + p.pad_h),
                w_end = std::min(w + p.kernel_w, p.in_w + p.pad_w);
  Window in{std::max<int64_t>(h, 0), std::min(h_end, p.in_h), std::max<int64_t>(w, 0),
            std::min(w_end, p.in_w), 0};
  in.divisor = p.count_include_pad ? (h_end - h) * (w_end - w) : (in.h1 - in.h0) * (in.w1 - in.w0);
  return in;
}

/// Calls f(window, offset of the image's plane, offset of the output) for each output.
template <class F>
void for_each_output(const Pool2dParams& p, F&& f) {
  int64_t out = 0;
  for (int64_t n = 0; n < p.batch; ++n)
    for (int64_t oh = 0; oh < p.out_h; ++oh)
      for (int64_t ow = 0; ow < p.out_w; ++ow)
        for (int64_t c = 0; c < p.channels; ++c)
          f(window(p, oh, ow), n * p.in_h * p.in_w * p.channels + c, out++);
}

template <class T>
void max_pool2d_forward(const Pool2dParams& p, const T* x, T* y, int32_t* index) {
  for_each_output(p, [&](const Window& in, int64_t plane, int64_t out) {
    T best = -std::numeric_limits<T>::infinity();
    int64_t where = in.h0 * p.in_w + in.w0;
    for (int64_t h = in.h0; h < in.h1; ++h)
      for (int64_t w = in.w0; w < in.w1; ++w) {
        const T v = x[plane + (h * p.in_w + w) * p.channels];
        if (v > best || v != v) {
          best = v;
          where = h * p.in_w + w;
        }
      }
    y[out] = best;
    index[out] = int32_t(where);
  });
}

template <class T>
void max_pool2d_backward(const Pool2dParams& p, const T* dy, const int32_t* index, T* dx) {
  std::fill_n(dx, p.batch * p.in_h * p.in_w * p.channels, T(0));
  for_each_output(
      p, [&](const Window&, int64_t plane, int64_t out) { dx[plane + index[out] * p.channels] += dy[out]; });
}

template <class T>
void avg_pool2d_forward(const Pool2dParams& p, const T* x, T* y) {
  for_each_output(p, [&](const Window& in, int64_t plane, int64_t out) {
    double sum = 0;
    for (int64_t h = in.h0; h < in.h1; ++h)
      for (int64_t w = in.w0; w < in.w1; ++w) sum += double(x[plane + (h * p.in_w + w) * p.channels]);
    y[out] = T(sum / double(in.divisor));
  });
}

template <class T>
void avg_pool2d_backward(const Pool2dParams& p, const T* dy, T* dx) {
  std::fill_n(dx, p.batch * p.in_h * p.in_w * p.channels, T(0));
  for_each_output(p, [&](const Window& in, int64_t plane, int64_t out) {
    const T share = dy[out] / T(in.divisor);
    for (int64_t h = in.h0; h < in.h1; ++h)
      for (int64_t w = in.w0; w < in.w1; ++w) dx[plane + (h * p.in_w + w) * p.channels] += share;
  });
}

}  // namespace

template <class T>
void set_pool(KernelTable<T>& table) {
  table.max_pool2d_forward = max_pool2d_forward<T>;
  table.max_pool2d_backward = max_pool2d_backward<T>;
  table.avg_pool2d_forward = avg_pool2d_forward<T>;
  table.avg_pool2d_backward = avg_pool2d_backward<T>;
}

template void set_pool(KernelTable<float>&);
template void set_pool(KernelTable<double>&);

}  // namespace weft::kernels::plain
