// One training step: forward, loss, backward, optimizer; on a GPU captured once and launched as a whole.
#pragma once

#include <memory>
#include <optional>

#include "weft/engine/allocator.h"
#include "weft/engine/data/batch_loader.h"
#include "weft/engine/module.h"
#include "weft/engine/weight_copies.h"
#include "weft/kernels/cuda.h"
#include "weft/optim/grad_scaler.h"
#include "weft/optim/optimizer.h"

namespace weft::app {

struct TrainStepOptions {
  Device device = Device::cpu;
  DType dtype = DType::f32;  ///< of the images; f16 brings dynamic loss scaling with it
  double label_smoothing = 0;
  bool capture = true;  ///< on a GPU: as a graph, from the third full batch on
};

/// Sums over the steps since they were last taken.
struct StepTotals {
  double loss = 0;     ///< of each picture
  double correct = 0;  ///< pictures whose largest logit is that of their label
  double images = 0;
  bool finite = true;  ///< whether all losses were
};

/// Trains a model on what a loader gives. The parameters, the optimizer's state and the batches are on one
/// device.
class TrainStep {
 public:
  TrainStep(Module& model, optim::Optimizer& optimizer, const TrainStepOptions& options);
  ~TrainStep();
  TrainStep(const TrainStep&) = delete;
  TrainStep& operator=(const TrainStep&) = delete;

  /// A step on the loader's next batch, or false at the end of its epoch. The loader must be the same each
  /// time, with fixed buffers where steps are captured. On the CPU a loss that is not finite leaves the model
  /// as it was; on a GPU nobody looks at it before take_totals().
  bool operator()(data::BatchLoader& loader);

  /// What the steps since the last call added up. On a GPU it waits for them.
  StepTotals take_totals();
  /// Whether steps are launched as a graph by now.
  bool captured() const { return graph_ != nullptr; }
  /// Kernels, copies and the like in that graph; 0 where there is none.
  int64_t graph_nodes() const { return graph_ ? graph_->nodes() : 0; }
  /// Of the memory that full batches take apart from the rest where they are captured.
  MemoryStats pool_stats() const { return pool_.stats(); }

  /// Of the loss scaling; empty without it. Sets the optimizer's counts right, so it comes before the
  /// optimizer's.
  StateDict state_dict();
  void load_state_dict(const StateDict& dict);

 private:
  void work(const data::DeviceBatch& batch);

  Module& model_;
  optim::Optimizer& optimizer_;
  const TrainStepOptions options_;
  std::optional<optim::GradScaler> scaler_;
  std::optional<WeightCopies> copies_;
  Tensor totals_;  // f64 [4], see kernels/cuda/metrics.h
  MemoryPool pool_;
  int64_t eager_steps_ = 0;  // on full batches
  std::unique_ptr<kernels::cuda::Graph> graph_;
};

}  // namespace weft::app
