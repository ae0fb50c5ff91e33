#include "weft/layers/self_attention.h"

#include "weft/engine/ops/attention.h"
#include "weft/engine/ops/elementwise.h"
#include "weft/engine/ops/matmul.h"
#include "weft/engine/ops/shape.h"
#include "weft/engine/tape.h"
#include "weft/layers/init.h"

namespace weft {
namespace {

Tensor identity_matrix(int64_t n) {
  Tensor eye = Tensor::zeros({n, n});
  for (int64_t i = 0; i < n; ++i) eye.data<float>()[i * n + i] = 1;
  return eye;
}

}  // namespace

SpectralLinear::SpectralLinear(Module& parent, std::string_view name, int64_t in_features,
                               int64_t out_features, Generator& generator)
    : Module(parent, name) {
  check(in_features > 0 && out_features > 0, "SpectralLinear ", name, ": ", in_features, " inputs and ",
        out_features, " outputs; both must be positive");
  weight = register_parameter(
      "weight", init::kaiming_normal_(Tensor::empty({out_features, in_features}), {}, generator));
  const auto [left, right] = detail::spectral_start(weight.shape(), false, generator);
  u = register_buffer("u", left);
  v = register_buffer("v", right);
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
  // With X = x^T [H W, C] and G = X^T X (symmetric) the transpose of the formula is y^T = X (I + (gamma W)^T
  // G). In this order only two of the products see the pixels, and neither gamma nor the addition costs a
  // pass over them, nor gamma one over G.
  const Tensor gram = bmm(pixels, pixels, {.transpose_a = true});
  const Tensor mix = bmm(cast(w * gamma, x.dtype()), gram, {.transpose_a = true});
  // In 16 bits 1 + gamma a would lose what gamma, which starts at 0, has learned.
  const bool apart = is_half(x.dtype());
  const auto identity = [&] {
    return identity_.get(x, {channels}, [&] { return identity_matrix(channels); });
  };
  const Tensor y = apart ? baddbmm(pixels, pixels, mix) : bmm(pixels, mix + identity());
  return reshape(y, {x.shape().begin(), x.shape().end()});
}

std::string SimpleSelfAttention::description() const {
  return concat("SimpleSelfAttention(", conv.weight.size(0), options_.symmetric ? ", symmetric)" : ")");
}

SelfAttention::SelfAttention(Module& parent, std::string_view name, int64_t channels, Generator& generator)
    : Module(parent, name),
      gamma(register_parameter("gamma", Tensor::zeros({1}))),
      query(*this, "query", channels, channels / 8, generator),
      key(*this, "key", channels, channels / 8, generator),
      value(*this, "value", channels, channels, generator) {}

Tensor SelfAttention::forward(const Tensor& x) {
  const int64_t channels = value.weight.size(0);
  check(x.ndim() >= 3 && x.size(-1) == channels, "SelfAttention: x has shape ", x.shape(),
        " but [N, H, W, C] with C = ", channels, " is expected");
  const Tensor pixels = reshape(x, {x.size(0), x.shape().numel(1, x.ndim() - 1), channels});
  // The softmax is over the pixels that f sees, so what is called key here asks and the query answers.
  const Tensor seen = scaled_dot_product_attention(key(pixels), query(pixels), value(pixels), {.scale = 1.0});
  return reshape(pixels + seen * cast(gamma, x.dtype()), {x.shape().begin(), x.shape().end()});
}

std::string SelfAttention::description() const { return concat("SelfAttention(", value.weight.size(0), ")"); }

}  // namespace weft
