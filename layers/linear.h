#pragma once

#include "weft/engine/module.h"
#include "weft/engine/packed_weight.h"

namespace weft {

struct LinearOptions {
  bool bias = true;
};

/// x weight^T + bias with a weight [out, in] and a bias [out] of its own: x [..., in] -> [..., out].
/// Both start as in PyTorch: uniform in +-1 / sqrt(in).
class Linear : public Module {
 public:
  using Options = LinearOptions;
  Linear(Module& parent, std::string_view name, int64_t in_features, int64_t out_features,
         const LinearOptions& options = {}, Generator& generator = default_generator());

  Tensor forward(const Tensor& x) override;
  std::string description() const override;

  Tensor weight;
  Tensor bias;  ///< undefined with .bias = false

 private:
  PackedWeight packed_;
};

}  // namespace weft
