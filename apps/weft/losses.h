// The training losses by name.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "weft/engine/tensor.h"

namespace weft::app {

struct TrainConfig;

/// cross-entropy, bce, focal.
std::vector<std::string> loss_names();

/// What --loss, --focal-gamma and --label-smoothing say: a mean over the batch, of logits f32 [N, C] and
/// labels i64 [N] or, where pictures are mixed, the weights of the classes f32 [N, C].
std::function<Tensor(const Tensor& logits, const Tensor& target)> training_loss(const TrainConfig& config);

}  // namespace weft::app
