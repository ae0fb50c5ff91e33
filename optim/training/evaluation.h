// How good a module is on a data set.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "weft/engine/batches.h"
#include "weft/engine/module.h"
#include "weft/optim/training/train_step.h"

namespace weft::training {

/// A number to judge by, in evaluation.
struct Metric {
  std::string name = {};
  /// Its sum over the samples of one batch, of which the mean over all samples is reported.
  std::function<double(const Tensor& prediction, const Tensor& y)> sum = {};
};

/// The share of samples whose largest logit (prediction [N, C]) is that of their label (y i64 [N]).
Metric accuracy();

struct Evaluation {
  double loss = 0;                   ///< mean over the samples
  std::vector<double> metrics = {};  ///< means over the samples, in the order of the metrics
  int64_t samples = 0;
  double seconds = 0;
};

struct EvaluateOptions {
  Loss loss = {};  ///< default: cross_entropy
  std::vector<Metric> metrics = {};
  DType dtype = DType::f32;                     ///< bf16 and f16: f32 x is converted first
  std::function<bool(int64_t done)> each = {};  ///< after each batch; ends the evaluation by returning false
};

/// Runs `module`, in evaluation mode, over one epoch of `batches`. Nothing where `each` ended it. Throws
/// Error where there is no sample at all.
std::optional<Evaluation> evaluate(Module& module, Batches& batches, const EvaluateOptions& options = {});

/// The same walk with a function of one's own: each(prediction, batch) gets f32 (or f64) predictions and ends
/// the walk by returning false; then the result is false.
bool for_each_prediction(Module& module, Batches& batches, DType dtype,
                         const std::function<bool(const Tensor& prediction, const DeviceBatch& batch)>& each);

}  // namespace weft::training
