#include "weft/layers/attention.h"

#include "weft/engine/ops/matmul.h"
#include "weft/engine/ops/shape.h"
#include "weft/layers/init.h"

namespace weft {
namespace {

int64_t checked(std::string_view name, int64_t embed_dim, int64_t heads, const MultiheadAttentionOptions& o) {
  check(embed_dim > 0 && heads > 0 && embed_dim % heads == 0, "MultiheadAttention ", name, ": ", embed_dim,
        " channels can't be cut into ", heads, " heads");
  check(o.dropout >= 0 && o.dropout <= 1, "MultiheadAttention ", name, ": dropout ", o.dropout,
        " is no probability; it must lie in [0, 1]");
  check(o.kdim >= 0 && o.vdim >= 0, "MultiheadAttention ", name, ": kdim ", o.kdim, " and vdim ", o.vdim,
        " must be above 0, or 0 for embed_dim");
  return embed_dim;
}

bool one_width(int64_t embed_dim, const MultiheadAttentionOptions& o) {
  return (o.kdim == 0 || o.kdim == embed_dim) && (o.vdim == 0 || o.vdim == embed_dim);
}

}  // namespace

MultiheadAttention::MultiheadAttention(Module& parent, std::string_view name, int64_t embed_dim,
                                       int64_t num_heads, const MultiheadAttentionOptions& o,
                                       Generator& generator)
    : Module(parent, name),
      in_proj_weight(weight("in_proj_weight", one_width(checked(name, embed_dim, num_heads, o), o),
                            3 * embed_dim, embed_dim, generator)),
      q_proj_weight(weight("q_proj_weight", !one_width(embed_dim, o), embed_dim, embed_dim, generator)),
      k_proj_weight(weight("k_proj_weight", !one_width(embed_dim, o), embed_dim,
                           o.kdim == 0 ? embed_dim : o.kdim, generator)),
      v_proj_weight(weight("v_proj_weight", !one_width(embed_dim, o), embed_dim,
                           o.vdim == 0 ? embed_dim : o.vdim, generator)),
      in_proj_bias(o.bias ? register_parameter("in_proj_bias", Tensor::zeros({3 * embed_dim})) : Tensor()),
      out_proj(*this, "out_proj", embed_dim, embed_dim, {.bias = o.bias}, generator),
      embed_dim_(embed_dim),
      heads_(num_heads),
      dropout_(o.dropout),
      generator_(generator) {
  if (o.bias) init::zeros_(out_proj.bias);
}

Tensor MultiheadAttention::weight(const char* name, bool wanted, int64_t out, int64_t in,
                                  Generator& generator) {
  if (!wanted) return {};
  return register_parameter(name, init::xavier_uniform_(Tensor::empty({out, in}), 1, generator));
}

Tensor MultiheadAttention::project(const char* what, int which, const Tensor& x) const {
  const Tensor own[] = {q_proj_weight, k_proj_weight, v_proj_weight};
  const Tensor own_weight =
      in_proj_weight.defined() ? narrow(in_proj_weight, 0, which * embed_dim_, embed_dim_) : own[which];
  check(x.ndim() == 3 && x.size(2) == own_weight.size(1), "MultiheadAttention: the ", what, " has shape ",
        x.shape(), " but [N, L, E] with E = ", own_weight.size(1), " is expected");
  const Tensor bias =
      in_proj_bias.defined() ? narrow(in_proj_bias, 0, which * embed_dim_, embed_dim_) : Tensor();
  return permute(reshape(linear(x, own_weight, bias), {x.size(0), x.size(1), heads_, embed_dim_ / heads_}),
                 {0, 2, 1, 3});
}

Tensor MultiheadAttention::forward(const Tensor& query, const Tensor& key, const Tensor& value,
                                   const AttentionMask& mask, Tensor* weights) {
  const AttentionOptions options{
      .mask = mask, .dropout_p = training() ? dropout_ : 0, .generator = &generator_};
  const Tensor q = project("query", 0, query), k = project("key", 1, key), v = project("value", 2, value);
  const Tensor y = scaled_dot_product_attention(q, k, v, options, weights);
  return out_proj(reshape(permute(y, {0, 2, 1, 3}), {query.size(0), query.size(1), embed_dim_}));
}

Tensor MultiheadAttention::operator()(const Tensor& query, const Tensor& key, const Tensor& value,
                                      const AttentionMask& mask, Tensor* weights) {
  return call(query, [&](const Tensor& in) { return forward(in, key, value, mask, weights); });
}

std::string MultiheadAttention::description() const {
  const std::string widths = in_proj_weight.defined()
                                 ? std::string()
                                 : concat(", kdim ", k_proj_weight.size(1), ", vdim ", v_proj_weight.size(1));
  return concat("MultiheadAttention(", embed_dim_, ", heads ", heads_, widths,
                in_proj_bias.defined() ? ")" : ", no bias)");
}

}  // namespace weft
