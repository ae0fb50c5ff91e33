// GradScaler: the loss times a factor that keeps the gradients of f16 activations within its range.
#pragma once

#include <vector>

#include "weft/engine/safetensors.h"
#include "weft/engine/tensor.h"
#include "weft/optim/optimizer.h"

namespace weft::optim {

struct GradScalerOptions {
  double init_scale = 65536;
  double growth_factor = 2;
  double backoff_factor = 0.5;
  int64_t growth_interval = 2000;  ///< steps without infinity after which the scale grows
};

/// Dynamic loss scaling (Micikevicius et al. 2018, https://arxiv.org/abs/1710.03740, section 3.2) as in
/// torch.amp.GradScaler. A gradient that is infinite or NaN makes its optimizer's step be left out and the
/// scale shrink; after growth_interval steps without one it grows. One scaler serves up to 16 optimizers.
///
///   GradScaler scaler(Device::cuda);
///   tape.backward(scaler.scale(loss));
///   scaler.unscale_(optimizer);  // only to look at the gradients, or to clip them
///   scaler.step(optimizer);
///   scaler.update();
///
/// On the GPU the scale, what was found and the counters stay there, nothing waits, and all of it can be
/// captured; the scaler must live as long as the graph. A step that is left out then still counts for the
/// optimizer, whose counts are on the CPU (a bias correction is a little too small), until settle().
class GradScaler {
 public:
  using Options = GradScalerOptions;

  /// For parameters on that device.
  explicit GradScaler(Device device = Device::cpu, const Options& options = {});

  /// loss times the scale, recorded. `loss` is an f32 scalar on the scaler's device.
  Tensor scale(const Tensor& loss) const;
  /// Divides the gradients of the optimizer's parameters by the scale and notes whether one is not finite.
  /// Throws Error where that was done since the last update().
  void unscale_(Optimizer& optimizer);
  /// unscale_() unless that is done, then the optimizer's step unless one of its gradients was found not to
  /// be finite. Throws Error on a second step of the optimizer since the last update().
  void step(Optimizer& optimizer);
  /// Changes the scale. To be called once, after the steps of all optimizers.
  void update();
  /// Forgets what was unscaled and found since the last update(): after an error between the two. The
  /// gradients of then must not be used any more.
  void discard();

  /// The scale now. On the GPU it waits.
  double scale() const { return scale_.item(); }
  /// Steps left out so far, of all optimizers. On the GPU it waits.
  int64_t skipped() const;
  /// Takes the steps of the optimizer left out since its last call off the optimizer's counts, where they
  /// were counted: on the GPU, for which it waits. Now and then, where each run does so at the same step, for
  /// corrections of bias follow the counts; and before states are saved where there are several optimizers.
  /// Frozen parameters keep their counts: before some are frozen or unfrozen, or groups are added, it is to
  /// be called too, or afterwards with Optimizer::trained() of before.
  void settle(Optimizer& optimizer) { settle(optimizer, optimizer.trained()); }
  void settle(Optimizer& optimizer, const std::vector<bool>& trained);

  /// "scale", "growth_tracker", "skipped" and "settled". The tensors are shared. Steps that are not settled
  /// yet are the first optimizer's when it is loaded: its state is to be saved at the same time.
  StateDict state_dict() const;
  /// Copies the state in. Throws Error, and then changes nothing, where it is not such a state.
  void load_state_dict(const StateDict& dict);

 private:
  enum class Stage { ready, unscaled, stepped };  // of an optimizer since the last update()
  struct Served {
    const Optimizer* optimizer;
    Stage stage;
    // Its places in found_ and left_out_. They stay its own: a captured step goes on using them.
    Tensor found, left_out;
  };
  Served& served(const Optimizer& optimizer);

  Options options_;
  Device device_;
  Tensor scale_;              // f32 scalar
  Tensor found_, left_out_;   // f32 and i64 [kScaledOptimizers]; steps left out that settle() has not seen
  Tensor tracker_, skipped_;  // i64 scalars
  Tensor settled_;            // i64 scalar on the CPU: how many of skipped_ are off the counts
  std::vector<Served> served_;
};

}  // namespace weft::optim
