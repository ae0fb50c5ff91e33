// The learning-rate range test: which rates a module can be trained with at all.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "weft/engine/batches.h"
#include "weft/engine/module.h"
#include "weft/optim/optimizer.h"
#include "weft/optim/training/train_step.h"

namespace weft::training {

struct LrFinderOptions {
  Loss loss = {};                       ///< default: cross_entropy
  double start_lr = 1e-7, end_lr = 10;  ///< of the first group; the others keep their share of it
  int64_t steps = 100;                  ///< from one to the other, each by the same factor
  double smoothing = 0.98;              ///< of the running mean of the losses: the weight of what came before
  double stop_at = 4;  ///< ends where the smoothed loss is so many times the lowest so far; 0: does not
  TrainStepOptions step = {};                   ///< dtype and the like
  std::function<bool(int64_t done)> each = {};  ///< called after each step; false ends the test
};

/// A step of the test.
struct LrFinderPoint {
  double lr, loss;
  double smoothed;  ///< running mean of the losses, without its bias towards 0
};

struct LrFinderResult {
  std::vector<LrFinderPoint> points;  ///< of finite losses
  bool diverged = false;              ///< it ended because the loss rose, or was no longer finite
  int64_t considered = 0;             ///< points that the suggestions are made from; of fewer than 2 none are
  // Rates to train with; 0 where the curve has no such place.
  double valley = 0;  ///< half-way through the longest fall of the smoothed loss: the best guess of the three
  double steepest = 0;  ///< where the smoothed loss falls fastest
  double minimum = 0;   ///< a tenth of the rate where it is lowest
};

/// Trains on `batches`, over as many epochs as it takes, with a rate that rises by the same factor each step,
/// and puts weights, buffers, the optimizer's state and rates, and the default generator back as they were;
/// gradients are dropped. (L. N. Smith 2015, https://arxiv.org/abs/1506.01186, section 3.3; curve and
/// suggestions as fastai's lr_find has them, https://docs.fast.ai/callback.schedule.html.)
///
/// Throws Error for options that make no sense, and where the first loss is not finite. Steps are not
/// captured: each loss is looked at.
LrFinderResult find_lr(Module& module, optim::Optimizer& optimizer, Batches& batches,
                       const LrFinderOptions& options = {});

/// The suggestions for a curve of a test that was to have so many steps, as find_lr() makes them: as fastai
/// does, without the points of the first tenth of the steps and the last five.
void suggest_rates(LrFinderResult& result, int64_t steps);

}  // namespace weft::training
