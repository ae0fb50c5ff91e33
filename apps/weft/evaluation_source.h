// From --model and --data to a model and the pictures that it is tried on.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "weft/apps/weft/model_file.h"
#include "weft/apps/weft/progress.h"
#include "weft/engine/data/batch_loader.h"

namespace CLI {
class App;
}

namespace weft::app {

struct EvaluationFlags {
  std::string model, data, split = "val", device = "cpu", precision = "fp32";
  int64_t size = 0, valid_resize = 0, batch_size = 64;
  bool best = false, strict = false;
  int threads = 0;
};
/// --model and the like, down to --strict.
void add_evaluation_flags(CLI::App& command, EvaluationFlags& flags);

struct EvaluationSource {
  LoadedModel loaded;  ///< on the device
  std::unique_ptr<data::BatchLoader> loader;
  std::vector<int64_t> label_map;  ///< the model's class for each label of the data
};
/// Opens both, and applies --threads. Throws UsageError for flags that do not fit the model, Error for a
/// model or data that cannot be read or do not fit each other.
EvaluationSource open_evaluation(const EvaluationFlags& flags, Progress& progress);

}  // namespace weft::app
