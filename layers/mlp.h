#pragma once

#include <optional>
#include <vector>

#include "weft/engine/ops/batch_norm.h"
#include "weft/kernels/activation.h"
#include "weft/layers/linear.h"
#include "weft/layers/sequential.h"

namespace weft {

struct MLPOptions {
  std::vector<int64_t> hidden = {512, 512};
  Activation activation = Activation::relu;
  std::optional<double> activation_param = {};
  bool norm = false;                   ///< batch norm between each hidden linear map and its activation
  BatchNormOptions norm_options = {};  ///< its momentum and eps
  double dropout = 0;                  ///< behind each activation
};

/// Fully connected network: x [N, ...], whose trailing dimensions are joined to `in_features` -> [N, out].
/// Each hidden size makes Linear, batch norm if wanted, activation, dropout if wanted; the last layer is a
/// Linear. Weights start with kaiming_normal_ (He et al., 2015, arXiv 1502.01852), biases at 0. Names:
/// hidden.linear0.weight, hidden.norm0.weight, head.weight.
class MLP : public Module {
 public:
  MLP(int64_t in_features, int64_t out_features, const MLPOptions& options = {},
      Generator& generator = default_generator());
  MLP(Module& parent, std::string_view name, int64_t in_features, int64_t out_features,
      const MLPOptions& options = {}, Generator& generator = default_generator());
  Tensor forward(const Tensor& x) override;
  std::string description() const override { return "MLP"; }

  Sequential hidden{*this, "hidden"};
  std::optional<Linear> head;  ///< always there

 private:
  void build(int64_t in_features, int64_t out_features, const MLPOptions& options, Generator& generator);
};

}  // namespace weft
