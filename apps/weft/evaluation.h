// Accuracy and loss of a model over a data set, class by class.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "weft/engine/data/batch_loader.h"
#include "weft/engine/module.h"

namespace weft::app {

struct ClassResults {
  double loss = 0;      ///< mean cross entropy, without label smoothing
  double accuracy = 0;  ///< share of images whose largest logit is that of their class
  int64_t images = 0;
  std::vector<int64_t> confusion;  ///< [class, predicted class], counts
};

/// Runs `model`, in evaluation mode, over one epoch of `loader`; label_map[i] is the model's class for label
/// i of the data. Calls each(batches done) after every batch.
ClassResults evaluate(Module& model, data::BatchLoader& loader, const std::vector<int64_t>& label_map,
                      int64_t classes, const std::function<void(int64_t)>& each);

}  // namespace weft::app
