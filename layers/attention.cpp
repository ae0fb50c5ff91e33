#include "weft/layers/attention.h"

#include "weft/engine/ops/matmul.h"
#include "weft/engine/ops/shape.h"
#include "weft/layers/init.h"

namespace weft {
namespace {

int64_t checked(std::string_view name, int64_t embed_dim, int64_t heads, double dropout) {
  check(embed_dim > 0 && heads > 0 && embed_dim % heads == 0, "MultiheadAttention ", name, ": ", embed_dim,
        " channels can't be cut into ", heads, " heads");
  check(dropout >= 0 && dropout < 1, "MultiheadAttention ", name, ": dropout ", dropout,
        " must be at least 0 and below 1");
  return embed_dim;
}

Tensor xavier(int64_t embed_dim, Generator& generator) {
  return init::xavier_uniform_(Tensor::empty({3 * embed_dim, embed_dim}), 1, generator);
}

}  // namespace

MultiheadAttention::MultiheadAttention(Module& parent, std::string_view name, int64_t embed_dim,
                                       int64_t num_heads, const MultiheadAttentionOptions& o,
                                       Generator& generator)
    : Module(parent, name),
      in_proj_weight(register_parameter("in_proj_weight",
                                        xavier(checked(name, embed_dim, num_heads, o.dropout), generator))),
      in_proj_bias(o.bias ? register_parameter("in_proj_bias", Tensor::zeros({3 * embed_dim})) : Tensor()),
      out_proj(*this, "out_proj", embed_dim, embed_dim, {.bias = o.bias}, generator),
      heads_(num_heads),
      dropout_(o.dropout),
      generator_(generator) {
  if (o.bias) init::zeros_(out_proj.bias);
}

Tensor MultiheadAttention::project(const char* what, int which, const Tensor& x) const {
  const int64_t width = in_proj_weight.size(1);
  check(x.ndim() == 3 && x.size(2) == width, "MultiheadAttention: the ", what, " has shape ", x.shape(),
        " but [N, L, E] with E = ", width, " is expected");
  const Tensor bias = in_proj_bias.defined() ? narrow(in_proj_bias, 0, which * width, width) : Tensor();
  const Tensor y = linear(x, narrow(in_proj_weight, 0, which * width, width), bias);
  return permute(reshape(y, {x.size(0), x.size(1), heads_, width / heads_}), {0, 2, 1, 3});
}

Tensor MultiheadAttention::forward(const Tensor& query, const Tensor& key, const Tensor& value,
                                   const AttentionMask& mask, Tensor* weights) {
  const AttentionOptions options{
      .mask = mask, .dropout_p = training() ? dropout_ : 0, .generator = &generator_};
  const Tensor q = project("query", 0, query), k = project("key", 1, key), v = project("value", 2, value);
  const Tensor y = scaled_dot_product_attention(q, k, v, options, weights);
  return out_proj(reshape(permute(y, {0, 2, 1, 3}), {query.size(0), query.size(1), in_proj_weight.size(1)}));
}

Tensor MultiheadAttention::operator()(const Tensor& query, const Tensor& key, const Tensor& value,
                                      const AttentionMask& mask, Tensor* weights) {
  return call(query, [&](const Tensor& in) { return forward(in, key, value, mask, weights); });
}

std::string MultiheadAttention::description() const {
  return concat("MultiheadAttention(", in_proj_weight.size(1), ", heads ", heads_,
                in_proj_bias.defined() ? ")" : ", no bias)");
}

}  // namespace weft
