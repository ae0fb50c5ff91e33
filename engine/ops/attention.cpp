#include "weft/engine/ops/attention.h"

#include <cmath>

#include "weft/engine/anomaly.h"
#include "weft/engine/ops/dropout.h"
#include "weft/engine/ops/elementwise.h"
#include "weft/engine/ops/helpers.h"
#include "weft/engine/ops/matmul.h"
#include "weft/engine/ops/reduce.h"
#include "weft/engine/ops/shape.h"
#include "weft/engine/ops/traced.h"
#include "weft/engine/trace.h"

namespace weft {
namespace {

/// What is added to scores of `dtype`: 0, or -inf where a u8 mask is not 0.
Tensor additive(const Tensor& mask, DType dtype) {
  if (mask.dtype() != DType::u8) return mask.detach().to(dtype);
  const Tensor some = minimum(mask.to(DType::f32), Tensor::ones({}, DType::f32, mask.device()));
  return log(1.0 - some).to(dtype);
}

Shape four_dimensions(const Shape& s) {
  if (s.ndim() == 2) return {1, 1, s[0], s[1]};
  if (s.ndim() == 3) return {s[0], 1, s[1], s[2]};
  return s;
}

/// All masks in one that is added: [., ., ., S], sizes 1 or x's. Undefined where there are none.
Tensor joined(const AttentionMask& m, const Tensor& x, const Shape& shape) {
  const NoGrad quiet;
  const DetectAnomaly::Pause pause;  // the -inf of what is left out is meant
  const DType wide = ops::wide_dtype(x.dtype());
  Tensor mask;
  if (m.attn_mask.defined()) {
    const Tensor& given = m.attn_mask;
    ops::check_same_device("attention", x, given);
    check(given.dtype() == DType::u8 || is_floating(given.dtype()), "attention: the attn_mask is ",
          given.dtype(), "; it must be floating (added to the scores) or u8 (not 0: left out)");
    bool fits = given.ndim() >= 2 && given.ndim() <= x.ndim() && given.size(-1) == shape[3];
    const Shape full = fits ? four_dimensions(given.shape()) : Shape{};
    for (int d = 0; fits && d < 3; ++d) fits = full[d] == 1 || full[d] == shape[d];
    check(fits, "attention: the attn_mask ", given.shape(), " does not fit scores ", x.shape(),
          "; expected [L, S], [N, L, S] or [N, H, L, S]");
    mask = additive(given, wide).view(full);
  }
  if (m.key_padding_mask.defined()) {
    const Tensor& given = m.key_padding_mask;
    ops::check_same_device("attention", x, given);
    check(given.dtype() == DType::u8 && given.shape() == Shape{shape[0], shape[3]},
          "attention: the key_padding_mask is ", given.dtype(), " ", given.shape(), "; expected u8 [",
          shape[0], ", ", shape[3], "]");
    const Tensor keys = additive(given, wide).view({shape[0], 1, 1, shape[3]});
    mask = mask.defined() ? add(mask, keys) : keys;
  }
  return mask;
}

}  // namespace

// y = softmax(scale x + mask): dx = scale y (dy - sum y dy).
Tensor masked_softmax(const Tensor& x, const AttentionMask& how, double scale) {
  check(x.ndim() >= 2 && x.ndim() <= 4 && x.size(-1) > 0,
        "masked_softmax: expected scores [L, S], [N, L, S] or [N, H, L, S], got ", x.shape());
  const Shape shape = four_dimensions(x.shape());
  const Tensor mask = joined(how, x, shape);
  const Tensor y = ops::empty_like(x);
  dispatch("masked_softmax", x, [&](const auto& k) {
    using T = kernel_type<decltype(k)>;
    using W = wide_type<decltype(k)>;
    kernels::MaskedSoftmaxArgs<T> a;
    a.batch = shape[0], a.heads = shape[1], a.rows = shape[2], a.cols = shape[3];
    a.x = x.data<T>(), a.scale = W(scale), a.causal = how.is_causal;
    if (mask.defined()) {
      a.mask = mask.data<W>();
      const auto stride = [&](int d) { return mask.size(d) == 1 ? 0 : mask.shape().numel(d + 1, 4); };
      a.batch_stride = stride(0), a.head_stride = stride(1), a.row_stride = stride(2);
    }
    k.masked_softmax(a, y.data<T>());
  });
  record(
      "masked_softmax", {x}, {y},
      [=](BackwardContext& c) {
        const Tensor& dy = c.grad_output();
        if (c.create_graph()) return c.set(0, affine(y * (dy - sum(y * dy, {-1}, true)), scale));
        const Tensor dx = dy.unique() ? dy : ops::empty_like(y);
        const int64_t cols = y.size(-1);
        dispatch("masked_softmax", y, [&](const auto& k) {
          using T = kernel_type<decltype(k)>;
          using W = wide_type<decltype(k)>;
          k.softmax_backward(y.numel() / cols, cols, y.data<T>(), dy.data<T>(), dx.data<T>());
          if (scale != 1) k.affine(dx.numel(), W(scale), W(0), dx.data<T>(), dx.data<T>());
        });
        c.set(0, dx);
      },
      {.double_backward = true, .told = Trace::note(TracedSoftmax{scale, mask.defined() || how.is_causal})});
  return y;
}

Tensor scaled_dot_product_attention(const Tensor& q, const Tensor& k, const Tensor& v,
                                    const AttentionOptions& o, Tensor* weights) {
  const int n = q.ndim();
  bool fits = (n == 3 || n == 4) && k.ndim() == n && v.ndim() == n && q.size(-1) == k.size(-1) &&
              k.size(-2) == v.size(-2) && k.size(-2) > 0;
  for (int d = 0; fits && d < n - 2; ++d) fits = q.size(d) == k.size(d) && q.size(d) == v.size(d);
  check(fits, "scaled_dot_product_attention: q ", q.shape(), ", k ", k.shape(), " and v ", v.shape(),
        " don't fit; expected [N, H, L, E], [N, H, S, E] and [N, H, S, V], or all without H");
  const int64_t planes = q.shape().numel(0, n - 2), rows = q.size(-2), keys = k.size(-2), width = q.size(-1);
  const auto matrices = [&](const Tensor& t) { return reshape(t, {planes, t.size(-2), t.size(-1)}); };
  const auto whole = [&](const Tensor& t) {
    std::vector<int64_t> sizes(q.shape().begin(), q.shape().end() - 2);
    sizes.insert(sizes.end(), {t.size(-2), t.size(-1)});
    return reshape(t, sizes);
  };
  const double scale = o.scale.value_or(1 / std::sqrt(double(width)));
  // In 16 bits the scores could overflow before they are scaled.
  const bool first = is_half(q.dtype());
  const Tensor scores =
      whole(bmm(matrices(first ? affine(q, scale) : q), matrices(k), {.transpose_b = true}));
  Tensor w = masked_softmax(scores, o.mask, first ? 1 : scale);
  if (weights) *weights = w;
  if (o.dropout_p > 0) w = dropout(w, o.dropout_p, true, o.generator ? *o.generator : default_generator());
  return whole(bmm(reshape(w, {planes, rows, keys}), matrices(v)));
}

}  // namespace weft
