// One training step: forward, loss, backward, optimizer; on a GPU captured once and launched as a whole.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "weft/engine/allocator.h"
#include "weft/engine/batches.h"
#include "weft/engine/module.h"
#include "weft/engine/weight_copies.h"
#include "weft/kernels/cuda.h"
#include "weft/optim/grad_scaler.h"
#include "weft/optim/optimizer.h"

namespace weft::training {

/// A scalar to be made small: the mean over the samples. `target` is the batch's `targets` where it has such,
/// else its y.
using Loss = std::function<Tensor(const Tensor& prediction, const Tensor& target)>;

struct TrainStepOptions {
  DType dtype = DType::f32;   ///< on a GPU also bf16, or f16, which brings dynamic loss scaling with it
  double clip_grad_norm = 0;  ///< the most that the norm of all gradients together may be; 0: no limit
  /// Works through each batch in so many parts whose gradients add up: less memory, the same mean gradient
  /// (batch norm sees the parts). A mean over samples is assumed of the loss.
  int64_t accumulate = 1;
  /// On a GPU: as a graph, from the third full batch on, and anew after a change of modes, frozen parameters,
  /// their memory or the optimizer's groups. Not where the module has hooks.
  bool capture = true;
};

/// Sums over the steps since they were last taken.
struct StepTotals {
  double loss = 0;     ///< of each sample
  double correct = 0;  ///< samples whose largest logit is that of their label; NaN where y is no label
  double samples = 0;
  bool finite = true;  ///< whether all losses were
};

/// Trains a module on what Batches give. The parameters, the optimizer's state and the batches are on one
/// device.
class TrainStep {
 public:
  TrainStep(Module& module, optim::Optimizer& optimizer, Loss loss, const TrainStepOptions& options = {});
  ~TrainStep();
  TrainStep(const TrainStep&) = delete;
  TrainStep& operator=(const TrainStep&) = delete;

  /// A step on the next batch, or false at the end of the epoch. The batches must be the same object each
  /// time where steps are captured. An error leaves no gradients, and no totals. On the CPU a loss that is
  /// not finite leaves the parameters as they were, though not the running statistics of batch norm, which
  /// forward has changed by then; on a GPU nobody looks at it before take_totals().
  bool operator()(Batches& batches);

  /// What the steps since the last call added up. On a GPU it waits for them.
  StepTotals take_totals();
  /// Whether steps are launched as a graph by now.
  bool captured() const { return graph_ != nullptr; }
  /// Kernels, copies and the like in that graph; 0 where there is none.
  int64_t graph_nodes() const { return graph_ ? graph_->nodes() : 0; }
  /// Of the memory that full batches take apart from the rest where they are captured.
  MemoryStats pool_stats() const { return pool_.stats(); }

  /// Takes steps that the loss scaling has left out off the optimizer's counts; waits for the GPU then. To
  /// be called where each run does so after the same step: at the end of an epoch.
  void settle();
  /// Of the loss scaling; empty without it. It belongs to the optimizer's state of the same time, and comes
  /// before that: it settles where parameters were frozen or groups added since the last step, as the next
  /// step would.
  StateDict state_dict();
  /// Throws Error, and then changes nothing, where it is not such a state.
  void load_state_dict(const StateDict& dict);

 private:
  void work(const DeviceBatch& batch);
  std::vector<Tensor> narrow() const;
  bool follows() const;
  std::optional<std::vector<uintptr_t>> form() const;
  void note_changes();
  bool add_gradients(const DeviceBatch& batch, double share);
  void add_totals(const Tensor& prediction, const Tensor& y, const Tensor& loss);

  Module& module_;
  optim::Optimizer& optimizer_;
  const Loss loss_;
  const TrainStepOptions options_;
  const Device device_;
  std::optional<optim::GradScaler> scaler_;
  std::vector<bool> trained_;  // with scaler_: Optimizer::trained() in the last step
  std::optional<WeightCopies> copies_;
  Tensor totals_;       // f64 [4], see kernels/cuda/metrics.h
  bool labels_ = true;  // whether y was class labels
  MemoryPool pool_;
  int64_t eager_steps_ = 0;      // on full batches
  std::vector<uintptr_t> form_;  // of what graph_ has been captured
  std::unique_ptr<kernels::cuda::Graph> graph_;
  bool follows_ = false;     // the graph: its update writes copies_
  int64_t work_count_ = -1;  // of the GPU, after the graph's last launch
};

}  // namespace weft::training
