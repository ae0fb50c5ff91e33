#include "weft/layers/self_attention.h"

#include <algorithm>
#include <cmath>

#include "weft/engine/checkpoint.h"
#include "weft/engine/ops/elementwise.h"
#include "weft/engine/ops/matmul.h"
#include "weft/engine/ops/reduce.h"
#include "weft/engine/ops/shape.h"
#include "weft/engine/tape.h"
#include "weft/layers/init.h"

namespace weft {
namespace {

/// Overwrites `unit` with x / max(|x|, 1e-12).
void assign_normalized(const Tensor& unit, const Tensor& x) {
  const Tensor norm = sqrt(sum(square(x)));
  const Tensor least = Tensor::full({}, 1e-12, x.dtype(), x.device());
  unit.copy_from((x / maximum(norm, least)).view(unit.shape()));
}

Tensor identity_matrix(int64_t n, DType dtype) {
  Tensor eye = Tensor::zeros({n, n});
  for (int64_t i = 0; i < n; ++i) eye.data<float>()[i * n + i] = 1;
  return eye.to(dtype);
}

}  // namespace

SpectralLinear::SpectralLinear(Module& parent, std::string_view name, int64_t in_features,
                               int64_t out_features, Generator& generator)
    : Module(parent, name) {
  check(in_features > 0 && out_features > 0, "SpectralLinear ", name, ": ", in_features, " inputs and ",
        out_features, " outputs; both must be positive");
  weight = register_parameter(
      "weight", init::kaiming_normal_(Tensor::empty({out_features, in_features}), {}, generator));
  u = register_buffer("u", Tensor::empty({out_features}));
  v = register_buffer("v", Tensor::empty({in_features}));
  for (const Tensor& unit : {u, v}) assign_normalized(unit, Tensor::normal(unit.shape(), 0, 1, generator));
}

Tensor SpectralLinear::normalized_weight() {
  const Shape u_column{weight.size(0), 1}, v_column{weight.size(1), 1};
  // Copies, because the next forward overwrites u and v, maybe before this one's backward has used them.
  const auto [u_now, v_now] = once([&] {
    if (training()) {
      const NoGrad no_grad;
      assign_normalized(v, matmul(weight, u.view(u_column), {.transpose_a = true}));
      assign_normalized(u, matmul(weight, v.view(v_column)));
    }
    return std::pair(u.clone().view(u_column), v.clone().view(v_column));
  });
  const Tensor sigma = sum(u_now * matmul(weight, v_now));
  return weight / sigma;
}

Tensor SpectralLinear::forward(const Tensor& x) { return linear(x, normalized_weight()); }

std::string SpectralLinear::description() const {
  return concat("SpectralLinear(", weight.size(1), ", ", weight.size(0), ")");
}

SimpleSelfAttention::SimpleSelfAttention(Module& parent, std::string_view name, int64_t channels,
                                         const SelfAttentionOptions& options, Generator& generator)
    : Module(parent, name),
      gamma(register_parameter("gamma", Tensor::zeros({1}))),
      conv(*this, "conv", channels, channels, generator),
      options_(options) {}

Tensor SimpleSelfAttention::forward(const Tensor& x) {
  const int64_t channels = conv.weight.size(0);
  check(x.ndim() >= 3 && x.size(-1) == channels, "SimpleSelfAttention: x has shape ", x.shape(),
        " but [N, H, W, C] with C = ", channels, " is expected");
  const Tensor pixels = reshape(x, {x.size(0), x.shape().numel(1, x.ndim() - 1), channels});
  Tensor w;
  {
    ScopeName scope(conv.name());
    w = conv.normalized_weight();
  }
  if (options_.symmetric) w = (w + permute(w, {1, 0})) * 0.5;
  // With X = x^T [H W, C] and G = X^T X (symmetric) the transpose of the formula is y^T = X (I + gamma W^T
  // G). In this order only two of the products see the pixels, and neither gamma nor the addition costs a
  // pass over them.
  const Tensor gram = bmm(pixels, pixels, {.transpose_a = true});
  w = cast(w, x.dtype());
  const Tensor mix = bmm(w, gram, {.transpose_a = true}) * cast(gamma, x.dtype());
  // In 16 bits 1 + gamma a would lose what gamma, which starts at 0, has learned.
  const bool apart = is_half(x.dtype());
  if (!apart && !(identity_.defined() && identity_.dtype() == x.dtype() && identity_.device() == x.device()))
    identity_ = identity_matrix(channels, x.dtype()).to(x.device());
  const Tensor y = apart ? pixels + bmm(pixels, mix) : bmm(pixels, mix + identity_);
  return reshape(y, {x.shape().begin(), x.shape().end()});
}

std::string SimpleSelfAttention::description() const {
  return concat("SimpleSelfAttention(", conv.weight.size(0), options_.symmetric ? ", symmetric)" : ")");
}

}  // namespace weft
