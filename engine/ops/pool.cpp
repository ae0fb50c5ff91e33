#include "weft/engine/ops/pool.h"

#include <cstring>

#include "weft/engine/ops/pool_helpers.h"
#include "weft/engine/ops/reduce.h"
#include "weft/engine/trace.h"
#include "weft/kernels/cuda.h"
#include "weft/kernels/parallel.h"

namespace weft {
namespace {

using kernels::Pool2dParams;

/// Output size as PyTorch's pooling_output_shape: in ceil mode the last window must start inside the image or
/// its left padding.
int64_t output_size(int64_t in, const Pool2dOptions& o, int64_t stride) {
  const int64_t span = in + 2 * o.padding - o.kernel + (o.ceil_mode ? stride - 1 : 0);
  int64_t out = span / stride + 1;
  if (o.ceil_mode && (out - 1) * stride >= in + o.padding) --out;
  return out;
}

}  // namespace

Pool2dParams ops::pool_geometry(const char* op, const Tensor& x, const Pool2dOptions& o) {
  check(x.ndim() == 4 && x.numel() > 0, op, ": expected a non-empty input [N, H, W, C], got ", x.shape());
  constexpr int64_t kMost = 1 << 30;  // kernels on a GPU count in 32 bits
  check(o.kernel >= 1 && o.kernel <= kMost && o.stride >= 0 && o.stride <= kMost, op, ": kernel ", o.kernel,
        " and stride ", o.stride, " must be positive and at most ", kMost);
  check(o.padding >= 0 && o.padding <= o.kernel / 2, op, ": padding ", o.padding,
        " must be at most half of the kernel ", o.kernel);
  const int64_t stride = o.stride ? o.stride : o.kernel;
  const int64_t smallest = o.kernel - (o.ceil_mode ? stride - 1 : 0) - 2 * o.padding;
  check(x.size(1) >= smallest && x.size(2) >= smallest, op, ": the image ", x.size(1), "x", x.size(2),
        " with padding ", o.padding, " is smaller than the window ", o.kernel);
  Pool2dParams p;
  p.batch = x.size(0), p.in_h = x.size(1), p.in_w = x.size(2), p.channels = x.size(3);
  p.out_h = output_size(p.in_h, o, stride), p.out_w = output_size(p.in_w, o, stride);
  p.kernel_h = p.kernel_w = o.kernel, p.stride_h = p.stride_w = stride, p.pad_h = p.pad_w = o.padding;
  p.count_include_pad = o.count_include_pad;
  return p;
}

std::string ops::describe_pool(const Pool2dParams& p) {
  return Tape::current() ? concat(p.kernel_h, "x", p.kernel_w, " stride ", p.stride_h, " pad ", p.pad_h)
                         : std::string();
}

namespace {
Tensor gather(const Pool2dParams& p, const ops::MaxIndex& index, const Tensor& x);
}

// Its own backward is gather().
Tensor ops::scatter_to_maxima(const Pool2dParams& p, const MaxIndex& index, const Tensor& dy) {
  Tensor dx = ops::empty({p.batch, p.in_h, p.in_w, p.channels}, dy);
  dispatch("max_pool2d", dx, [&](const auto& k) {
    using T = kernel_type<decltype(k)>;
    k.max_pool2d_backward(p, dy.data<T>(), static_cast<const int32_t*>(index->data()), dx.data<T>());
  });
  record("max_pool2d_backward", {dy}, {dx},
         [=](BackwardContext& c) { c.set(0, gather(p, index, c.grad_output())); },
         {.double_backward = true, .looks_back = false});
  return dx;
}

namespace {

/// y[o] = x[index[o]]. Only second derivatives need it, so it is done on the CPU, for a GPU too.
Tensor gather(const Pool2dParams& p, const ops::MaxIndex& index, const Tensor& x) {
  const int64_t outputs = p.out_h * p.out_w, inputs = p.in_h * p.in_w, bytes = size_of(x.dtype());
  std::vector<int32_t> copy;
  const int32_t* at = static_cast<const int32_t*>(index->data());
  if (x.device() == Device::cuda) {
    copy.resize(size_t(p.batch * outputs * p.channels));
    kernels::cuda::download(copy.data(), at, int64_t(copy.size() * sizeof(int32_t)));
    at = copy.data();
  }
  const Tensor from = x.detach().to(Device::cpu);
  Tensor y = Tensor::empty({p.batch, p.out_h, p.out_w, p.channels}, x.dtype());
  kernels::parallel_ranges(p.batch * outputs, 1 + 8192 / p.channels, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin * p.channels; i < end * p.channels; ++i) {
      const int64_t image = i / p.channels / outputs, channel = i % p.channels;
      std::memcpy(
          static_cast<char*>(y.raw()) + i * bytes,
          static_cast<const char*>(from.raw()) + ((image * inputs + at[i]) * p.channels + channel) * bytes,
          size_t(bytes));
    }
  });
  y = y.to(x.device());
  record("max_pool2d_gather", {x}, {y},
         [=](BackwardContext& c) { c.set(0, ops::scatter_to_maxima(p, index, c.grad_output())); },
         {.double_backward = true, .looks_back = false});
  return y;
}

Tensor average(const Pool2dParams& p, const Tensor& x);

}  // namespace

// It is linear: its own backward is the average again.
Tensor ops::avg_pool2d_backward(const Pool2dParams& p, const Tensor& dy) {
  Tensor dx = ops::empty({p.batch, p.in_h, p.in_w, p.channels}, dy);
  dispatch("avg_pool2d", dx, [&](const auto& k) {
    using T = kernel_type<decltype(k)>;
    k.avg_pool2d_backward(p, dy.data<T>(), dx.data<T>());
  });
  record("avg_pool2d_backward", {dy}, {dx},
         [=](BackwardContext& c) { c.set(0, average(p, c.grad_output())); },
         {.double_backward = true, .looks_back = false});
  return dx;
}

namespace {

/// dx += the same; false where there is no kernel for it.
bool add_spread(const Pool2dParams& p, const Tensor& dy, Tensor& dx) {
  return dispatch("avg_pool2d", dx, [&](const auto& k) {
    using T = kernel_type<decltype(k)>;
    if (k.avg_pool2d_backward_add) k.avg_pool2d_backward_add(p, dy.data<T>(), dx.data<T>());
    return k.avg_pool2d_backward_add != nullptr;
  });
}

// y = sum over the window / count: each element gets dy / count of every window that it is in.
Tensor average(const Pool2dParams& p, const Tensor& x) {
  Tensor y = ops::empty({p.batch, p.out_h, p.out_w, p.channels}, x);
  dispatch("avg_pool2d", x, [&](const auto& k) {
    using T = kernel_type<decltype(k)>;
    k.avg_pool2d_forward(p, x.data<T>(), y.data<T>());
  });
  record("avg_pool2d", {x}, {y},
         [=](BackwardContext& c) {
           const Tensor& dy = c.grad_output();
           if (!ops::added_in_place(c, 0, [&](Tensor& dx) { return add_spread(p, dy, dx); }))
             c.set(0, ops::avg_pool2d_backward(p, dy));
         },
         {.detail = ops::describe_pool(p),
          .double_backward = true,
          .looks_back = false,
          .told = Trace::note(p)});
  return y;
}

}  // namespace

// y = max over the window: dy goes to the element that won.
Tensor max_pool2d(const Tensor& x, const Pool2dOptions& options) {
  const Pool2dParams p = ops::pool_geometry("max_pool2d", x, options);
  Tensor y = ops::empty({p.batch, p.out_h, p.out_w, p.channels}, x);
  const auto index = std::make_shared<Storage>(size_t(y.numel()) * sizeof(int32_t), x.device());
  check(p.in_h * p.in_w <= INT32_MAX, "max_pool2d: the image ", p.in_h, "x", p.in_w, " is too large");
  dispatch("max_pool2d", x, [&](const auto& k) {
    using T = kernel_type<decltype(k)>;
    k.max_pool2d_forward(p, x.data<T>(), y.data<T>(), static_cast<int32_t*>(index->data()));
  });
  record("max_pool2d", {x}, {y},
         [=](BackwardContext& c) { c.set(0, ops::scatter_to_maxima(p, index, c.grad_output())); },
         {.detail = ops::describe_pool(p),
          .double_backward = true,
          .looks_back = false,
          .told = Trace::note(p)});
  return y;
}

Tensor avg_pool2d(const Tensor& x, const Pool2dOptions& options) {
  return average(ops::pool_geometry("avg_pool2d", x, options), x);
}

Tensor global_avg_pool(const Tensor& x) {
  check(x.ndim() == 4, "global_avg_pool: expected [N, H, W, C], got ", x.shape());
  return mean(x, {1, 2});
}

}  // namespace weft
