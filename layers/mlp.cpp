#include "weft/layers/mlp.h"

#include "weft/engine/ops/shape.h"
#include "weft/layers/activation.h"
#include "weft/layers/batch_norm.h"
#include "weft/layers/dropout.h"
#include "weft/layers/init.h"

namespace weft {

MLP::MLP(int64_t in_features, int64_t out_features, const MLPOptions& options, Generator& generator) {
  build(in_features, out_features, options, generator);
}
MLP::MLP(Module& parent, std::string_view name, int64_t in_features, int64_t out_features,
         const MLPOptions& options, Generator& generator)
    : Module(parent, name) {
  build(in_features, out_features, options, generator);
}

void MLP::build(int64_t in, int64_t out, const MLPOptions& o, Generator& generator) {
  BatchNormOptions norm = o.norm_options;
  norm.activation = o.activation;
  norm.activation_param = o.activation_param;
  for (size_t i = 0; i < o.hidden.size(); in = o.hidden[i++]) {
    hidden.emplace<Linear>(concat("linear", i), in, o.hidden[i], LinearOptions{}, generator);
    if (o.norm)
      hidden.emplace<BatchNorm2d>(concat("norm", i), o.hidden[i], norm, generator);
    else
      hidden.emplace<ActivationLayer>(concat("activation", i), o.activation, o.activation_param, o.hidden[i],
                                      generator);
    if (o.dropout > 0) hidden.emplace<Dropout>(concat("dropout", i), o.dropout, generator);
  }
  head.emplace(*this, "head", in, out, LinearOptions{}, generator);
  init::kaiming_normal_all_(*this, generator);
}

Tensor MLP::forward(const Tensor& x) {
  const int64_t in =
      hidden.size() > 0 ? dynamic_cast<Linear&>(hidden[0]).weight.size(1) : head->weight.size(1);
  const Tensor flat = x.ndim() > 2 ? flatten(x) : x;
  check(flat.ndim() == 2 && flat.size(1) == in, "MLP: x has shape ", x.shape(), " but [N, ...] with ", in,
        " numbers for each row is expected");
  return (*head)(hidden(flat));
}

}  // namespace weft
