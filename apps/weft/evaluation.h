// Accuracy and loss of a model over a data set.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "weft/engine/data/batch_loader.h"
#include "weft/engine/module.h"

namespace weft::app {

struct Evaluation {
  double loss = 0;      ///< mean cross entropy, without label smoothing
  double accuracy = 0;  ///< share of images whose largest logit is that of their class
  int64_t images = 0;
  std::vector<int64_t> confusion;  ///< [class, predicted class], counts
};

/// Runs `model`, in evaluation mode, over one epoch of `loader`; label_map[i] is the model's class for label
/// i of the data. `each(batches done)` is called after every batch and ends the evaluation by returning
/// false; then there is no result.
std::optional<Evaluation> evaluate(Module& model, data::BatchLoader& loader,
                                   const std::vector<int64_t>& label_map, int64_t classes,
                                   const std::function<bool(int64_t)>& each);

}  // namespace weft::app
