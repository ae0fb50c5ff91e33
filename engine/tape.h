// The tape: what was computed, in order, and how to walk it back.
//
//   Tape tape;                       // records on this thread from here ...
//   Tensor loss = f(x);
//   tape.backward(loss);             // adds into the grad() of every leaf, frees what it has passed
//                                    // ... to the tape's end
//
// With no tape alive nothing is recorded.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "weft/engine/tensor.h"

namespace weft {

/// A tensor's place in a gradient computation: a leaf (parameter) or the output of a tape entry.
struct Variable {
  bool leaf = true;
  uint64_t tape = 0;   ///< the tape that computed it; 0 for a leaf
  int64_t entry = -1;  ///< its entry there
  Tensor grad;         ///< summed gradient; of intermediate results only while backward walks
};

class BackwardContext;
using BackwardFunction = std::function<void(BackwardContext&)>;

/// One recorded op.
struct TapeEntry {
  struct Slot {
    std::shared_ptr<Variable> variable;  ///< null where no gradient is wanted
    Shape shape;
    DType dtype = DType::f32;
    Device device = Device::cpu;
  };
  std::string_view op;        ///< "conv2d"
  std::string detail;         ///< "3x3 stride 2, pad 1"
  std::string scope;          ///< path of the module that ran it: "stem.0.conv"
  int64_t multiply_adds = 0;  ///< of the forward pass; 0 for ops that are not matrix products
  std::vector<Slot> inputs, outputs;
  BackwardFunction backward;  ///< empty once passed
};

/// What a backward function is given and what it fills.
class BackwardContext {
 public:
  /// Gradient of the loss with respect to output i; same shape as the output. Never undefined.
  const Tensor& grad_output(int i = 0) const { return grad_outputs_[size_t(i)]; }
  /// Whether input i wants a gradient.
  bool needs(int i) const { return inputs_[size_t(i)].variable != nullptr; }
  /// The same handed over, so that who works on it may overwrite it; grad_output(i) is undefined then.
  Tensor take_grad_output(int i = 0) { return std::move(grad_outputs_[size_t(i)]); }
  /// Hands over the gradient of input i; ignored where it is not needed. Adds where called twice.
  void set(int i, Tensor grad);

 private:
  friend class Tape;
  std::vector<Tensor> grad_outputs_;
  std::span<const TapeEntry::Slot> inputs_;
  std::string_view op_;
};

/// Called in backward with an entry and the gradients of its outputs, before its backward function runs.
using TapeHook = std::function<void(const TapeEntry& entry, std::span<const Tensor> grad_outputs)>;

class Tape {
 public:
  /// What a tape is for: to be walked back, or only to show what was computed (a sketch keeps no saved
  /// tensors).
  enum class Kind { full, sketch };
  /// Starts recording on this thread. Tapes nest: an inner one records instead of the outer one.
  explicit Tape(Kind kind = Kind::full);
  /// Stops recording. Intermediate results of a tape that has ended can't be used under another one.
  ~Tape();
  Tape(const Tape&) = delete;
  Tape& operator=(const Tape&) = delete;

  /// Walks the tape once in reverse from `loss` (one element) and adds into every leaf's grad(). Each entry's
  /// saved tensors are freed as it is passed; a second call is an error. Gradients of leaves add up over
  /// several tapes until zero_grad().
  void backward(const Tensor& loss);
  /// The same from an output of any shape with its gradient given.
  void backward(Tensor output, Tensor grad);

  /// The same memory as a tensor of this tape, whatever tape it was computed under: its gradient stays in its
  /// variable() after backward.
  Tensor input(const Tensor& x) const;
  /// What was recorded, in order.
  std::span<const TapeEntry> entries() const { return entries_; }
  /// Calls `hook` for the entry as backward reaches it; for all of them where entry is -1.
  void add_hook(TapeHook hook, int64_t entry = -1);
  /// A table: number, scope, op, detail, shapes of inputs and outputs.
  std::string to_string() const;
  /// The graph in Graphviz's DOT language: `dot -Tsvg tape.dot`.
  std::string to_dot() const;

  /// The tape that records on this thread, or null.
  static Tape* current();

 private:
  friend class Recorder;
  uint64_t id_;
  Kind kind_;
  Tape* outer_;
  bool spent_ = false;
  std::vector<TapeEntry> entries_;
  std::vector<std::pair<int64_t, TapeHook>> hooks_;
};

/// Suspends recording on this thread while it lives.
class NoGrad {
 public:
  NoGrad();
  ~NoGrad();
  NoGrad(const NoGrad&) = delete;
  NoGrad& operator=(const NoGrad&) = delete;

 private:
  Tape* suspended_;
};

/// What an op says of itself when it records.
struct RecordOptions {
  std::string detail = {};
  int64_t multiply_adds = 0;
};

/// True where an op on these inputs must be recorded: a tape records and an input requires a gradient.
bool recording(std::initializer_list<const Tensor*> inputs);
/// Records an op if recording(inputs). Undefined inputs (an absent bias) are skipped but keep their number.
/// `backward` captures only what it needs: capturing a tensor keeps its memory until the entry is passed. Ops
/// without inputs that require a gradient are recorded too while a tape is alive, without backward, so that
/// the tape shows the whole computation. Also how a user adds an op of their own.
void record(std::string_view op, const std::vector<Tensor>& inputs, const std::vector<Tensor>& outputs,
            BackwardFunction backward, RecordOptions options = {});
/// The same with the inputs described instead of given.
void record(std::string_view op, std::vector<TapeEntry::Slot> inputs, const std::vector<Tensor>& outputs,
            BackwardFunction backward, RecordOptions options = {});

/// Names the part of the model that runs: entries recorded while it lives carry the path.
class ScopeName {
 public:
  explicit ScopeName(std::string_view name);
  ~ScopeName();
  /// The path as it is now.
  static const std::string& path();
  ScopeName(const ScopeName&) = delete;
  ScopeName& operator=(const ScopeName&) = delete;

 private:
  size_t length_;
  bool range_ = false;  // in NVIDIA's profilers
};

}  // namespace weft
