#include "weft/layers/linear.h"

#include <cmath>

#include "weft/engine/ops/matmul.h"
#include "weft/layers/init.h"

namespace weft {

Linear::Linear(Module& parent, std::string_view name, int64_t in_features, int64_t out_features,
               const LinearOptions& options, Generator& generator)
    : Module(parent, name) {
  check(in_features > 0 && out_features > 0, "Linear ", name, ": ", in_features, " inputs and ", out_features,
        " outputs; both must be positive");
  const double bound = 1 / std::sqrt(double(in_features));
  weight = register_parameter(
      "weight", init::uniform_(Tensor::empty({out_features, in_features}), -bound, bound, generator));
  if (options.bias)
    bias =
        register_parameter("bias", init::uniform_(Tensor::empty({out_features}), -bound, bound, generator));
}

Tensor Linear::forward(const Tensor& x) {
  if (!optimized_for_inference()) packed_.release();
  return linear(x, weight, bias, optimized_for_inference() ? &packed_ : nullptr);
}

std::string Linear::description() const {
  return concat("Linear(", weight.size(1), ", ", weight.size(0), bias.defined() ? ")" : ", no bias)");
}

}  // namespace weft
