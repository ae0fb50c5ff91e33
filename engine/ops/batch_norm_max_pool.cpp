#include "weft/engine/ops/batch_norm_max_pool.h"

#include <vector>

#include "weft/engine/ops/batch_norm_helpers.h"
#include "weft/engine/ops/elementwise.h"
#include "weft/engine/ops/pool_helpers.h"
#include "weft/kernels/cuda.h"

namespace weft {
namespace {

using kernels::Pool2dParams;

bool has_kernel(const Tensor& x, const Pool2dParams& p, Activation act) {
  return dispatch("batch_norm_max_pool", x, [&](const auto& k) {
    return k.has_batch_norm_max_pool && k.has_batch_norm_max_pool(p, act);
  });
}

/// What max_pool2d() would have kept. Only second derivatives need it, so it is done on the CPU, as theirs.
ops::MaxIndex index_of(const Pool2dParams& p, const Storage& places) {
  std::vector<uint8_t> at(places.bytes());
  kernels::cuda::download(at.data(), places.data(), int64_t(at.size()));
  std::vector<int32_t> index(at.size());
  for (size_t o = 0; o < at.size(); ++o) {
    const int64_t pixel = int64_t(o) / p.channels, oh = pixel / p.out_w % p.out_h, ow = pixel % p.out_w;
    const int64_t h = oh * p.stride_h - p.pad_h + at[o] / p.kernel_w,
                  w = ow * p.stride_w - p.pad_w + at[o] % p.kernel_w;
    index[o] = int32_t(h * p.in_w + w);
  }
  const auto result = std::make_shared<Storage>(index.size() * sizeof(int32_t), places.device());
  kernels::cuda::upload(result->data(), index.data(), int64_t(result->bytes()));
  return result;
}

}  // namespace

// With g = dy act'(z) at the maxima, dweight and dbias are sums over the outputs alone, and x's gradient is
// that of batch_norm(), where g of a pixel is the sum over the windows whose maximum it is.
Tensor batch_norm_max_pool(const BatchNormInput& in, const Pool2dOptions& pool, const BatchNormOptions& o) {
  const Tensor &x = in.x, &w = in.weight, &b = in.bias;
  const Pool2dParams p = ops::pool_geometry("batch_norm_max_pool", x, pool);
  if (!has_kernel(x, p, o.activation))
    return max_pool2d(batch_norm(x, w, b, in.running_mean, in.running_var, true, o, {}, in.stats), pool);
  const auto [mean, invstd] = ops::training_stats("batch_norm_max_pool", in, o);
  const double param = o.activation_param.value_or(activation_default_param(o.activation));
  Tensor y = ops::empty({p.batch, p.out_h, p.out_w, p.channels}, x);
  const Tensor x_at = ops::empty_like(y);
  const auto at = std::make_shared<Storage>(size_t(y.numel()), x.device());
  dispatch("batch_norm_max_pool", x, [&, mean = mean, invstd = invstd](const auto& k) {
    using T = kernel_type<decltype(k)>;
    k.batch_norm_max_pool_forward(ops::norm_arguments<T>(x, w, b, mean, invstd, o.activation, param), p,
                                  y.data<T>(), static_cast<uint8_t*>(at->data()), x_at.data<T>());
  });
  record("batch_norm_max_pool", {x, w, b}, {y},
         [=, mean = mean, invstd = invstd, x = x, w = w, b = b](BackwardContext& c) {
           const Tensor& dy = c.grad_output();
           if (c.create_graph()) {
             const ops::Normalized n = ops::normalized(x, w.dtype(), o.eps);
             Tensor g = cast(ops::scatter_to_maxima(p, index_of(p, *at), dy), w.dtype());
             if (o.activation != Activation::identity)
               g = ops::activation_backward(o.activation, param, n.xhat * w + b, g);
             return ops::set_norm_gradients(c, 0, n, w, g, true, x.dtype());
           }
           Tensor dx = ops::empty_like(x), dw = ops::empty_like(w), db = ops::empty_like(b);
           const Tensor g = dy.unique() ? dy : ops::empty_like(dy);
           dispatch("batch_norm_max_pool", x, [&](const auto& k) {
             using T = kernel_type<decltype(k)>;
             using W = wide_type<decltype(k)>;
             k.batch_norm_max_pool_backward(
                 ops::norm_arguments<T>(x, w, b, mean, invstd, o.activation, param), p, dy.data<T>(),
                 static_cast<const uint8_t*>(at->data()), x_at.data<T>(), g.data<T>(),
                 kernels::BatchNormGradients<T>{dx.data<T>(), dw.data<W>(), db.data<W>()});
           });
           c.set(0, std::move(dx));
           c.set(1, std::move(dw));
           c.set(2, std::move(db));
         },
         {.detail = Tape::current()
                        ? concat("train + ", activation_name(o.activation), " + ", ops::describe_pool(p))
                        : std::string(),
          .double_backward = true});
  return y;
}

}  // namespace weft
