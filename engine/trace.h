// Trace: what a forward pass computed, op for op, with the tensors themselves. For who writes a model down in
// another form, as `weft export` does.
//
//   Trace trace;
//   const Tensor y = net(x);
//   for (const TracedOp& op : trace.ops()) ...
#pragma once

#include <any>
#include <string>
#include <string_view>
#include <vector>

#include "weft/engine/in_force.h"
#include "weft/engine/tensor.h"

namespace weft {

/// One op that ran.
struct TracedOp {
  std::string op;                       ///< "conv2d"
  std::string scope;                    ///< path of the module that ran it: "stem.0.conv"
  std::vector<Tensor> inputs, outputs;  ///< an absent input is undefined, but keeps its place
  std::any told;                        ///< see RecordOptions

  /// What it was told, as the type that the op hands over. Throws Error where that is another.
  template <class T>
  const T& told_as() const {
    const T* options = std::any_cast<T>(&told);
    check(options, op, scope.empty() ? "" : " in ", scope, ": what it was told is not what is asked for");
    return *options;
  }
};

/// While it lives, all ops on this thread that record() are kept with their tensors, with a tape or without,
/// but for those of a walk back. As the tensors live on, no memory is used twice: of two with the same
/// address and shape the elements are the same, whether or not a recorded op led from one to the other.
/// Suspended by NoGrad, so that an op that computes with others appears once; what these others make of
/// constants is a constant then. Traces nest as tapes do: the inner one counts.
class Trace {
 public:
  Trace();
  ~Trace();
  Trace(const Trace&) = delete;
  Trace& operator=(const Trace&) = delete;

  /// In the order in which they ran.
  const std::vector<TracedOp>& ops() const { return ops_; }

  /// The one of this thread, or null.
  static Trace* current();
  /// For RecordOptions::told: `options`, where somebody traces.
  template <class T>
  static std::any note(const T& options) {
    return current() ? std::any(options) : std::any();
  }
  /// For record().
  void keep(std::string_view op, const std::vector<Tensor>& inputs, const std::vector<Tensor>& outputs,
            std::any told);

 private:
  std::vector<TracedOp> ops_;
  InForce<Trace> in_force_;
};

}  // namespace weft
