// What a model is made of, read off the tape of one forward pass.
#pragma once

#include <string>
#include <vector>

#include "weft/engine/module.h"

namespace weft {

/// One module of a model; counts include the modules below it.
struct SummaryRow {
  std::string path;         ///< "stages.0.1.conv2"; empty for the model itself
  std::string description;  ///< "Conv2d(64, 64, kernel 3, padding 1, no bias)"
  int depth = 0;            ///< modules above it
  bool ran = false;         ///< whether the forward pass recorded an op of it
  Shape output;             ///< of its last op; empty if it did not run
  int64_t parameters = 0;
  int64_t multiply_adds = 0;  ///< of convolutions and matrix products
};

struct ModelSummary {
  Shape input;
  std::vector<SummaryRow> rows;  ///< parents first; rows[0] is the model itself, so its counts are the totals
  int64_t buffers = 0;           ///< elements of state that is not trained

  int64_t parameters() const { return rows.front().parameters; }
  int64_t multiply_adds() const { return rows.front().multiply_adds; }
  /// A table with a line for each module down to `max_depth` (negative: all of them) and the totals.
  std::string to_string(int max_depth = -1) const;
};

/// Runs the model once in evaluation mode on zeros of shape `input`, batch dimension first, and collects what
/// it recorded. Leaves the model as it was: state, gradients, and which of its parts are in training.
ModelSummary summarize(Module& model, const Shape& input);

/// summarize(model, input).to_string().
std::string summary(Module& model, const Shape& input);

}  // namespace weft
