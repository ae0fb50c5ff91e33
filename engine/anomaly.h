// DetectAnomaly: finds the first NaN or infinity of a computation and says where it came from.
//
//   DetectAnomaly tracing({.step = step});
//   Tape tape;
//   tape.backward(loss(net(x)));          // throws where the first bad value appears
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "weft/engine/error.h"
#include "weft/engine/in_force.h"
#include "weft/engine/tensor.h"

namespace weft {

/// What DetectAnomaly throws.
class AnomalyError : public Error {
 public:
  using Error::Error;
};

struct DetectAnomalyOptions {
  int64_t step = -1;     ///< of the training, for the message; negative: not mentioned
  bool infinity = true;  ///< infinite values are anomalies too; otherwise NaN alone is
};

/// While it lives, the results of every op on this thread and every gradient that backward computes are
/// looked at, and the first that is NaN or infinite throws an AnomalyError. It names the pass (forward or
/// backward), the op, the layer (path of the scope), the step, the element, the sample (its index in
/// dimension 0), and which inputs (in backward: incoming gradients) were bad already. As
/// torch.autograd.detect_anomaly, and without a tape too. Each op then costs one more pass over its results,
/// on a GPU also a copy to the CPU, so a captured step can't be traced. With none alive the tape asks once
/// for each op. They nest: the inner one counts. They may end in any order, each on the thread where it
/// began.
class DetectAnomaly {
 public:
  explicit DetectAnomaly(const DetectAnomalyOptions& options = {});
  ~DetectAnomaly();
  DetectAnomaly(const DetectAnomaly&) = delete;
  DetectAnomaly& operator=(const DetectAnomaly&) = delete;

  /// The one of this thread, or null.
  static DetectAnomaly* current();
  /// Suspends it while it lives: for an op that is made of others, so that the message names the whole.
  class Pause {
    InForce<DetectAnomaly> nothing_{nullptr};
  };

  // --- for the tape ---
  /// Whether a backward runs whose ops are not recorded: their results are looked at as its gradients.
  static bool walking_back() { return InForce<WalkBack>::current(); }
  /// Says so while it lives.
  class WalkBack {
   public:
    explicit WalkBack(bool on) : in_force_(on ? this : nullptr) {}

   private:
    InForce<WalkBack> in_force_;
  };
  void check_outputs(std::string_view op, const std::vector<Tensor>& inputs,
                     const std::vector<Tensor>& outputs) const;
  void check_gradient(std::string_view op, std::string_view scope, int input, const Tensor& grad,
                      std::span<const Tensor> grad_outputs) const;

 private:
  int64_t first_bad(const Tensor& t) const;
  std::string describe(const Tensor& t) const;
  std::string step() const;

  DetectAnomalyOptions options_;
  InForce<DetectAnomaly> in_force_;
};

}  // namespace weft
