// The tape: what was computed, in order, and how to walk it back.
//
//   Tape tape;                       // records on this thread from here ...
//   Tensor loss = f(x);
//   tape.backward(loss);             // adds into the grad() of every leaf, frees what it has passed
//                                    // ... to the tape's end
//
// With no tape alive nothing is recorded.
//
// The way back can be recorded too, on the same tape, behind what it walks back over. Then gradients are
// tensors like others, and have gradients of their own:
//
//   const Tensor slope = tape.grad(loss, {x}, {.create_graph = true})[0];
//   tape.backward(sum(square(slope)));     // a gradient penalty
//
// For this an op's backward function is made of recorded ops on the tensors that forward had (not detach()ed
// ones): with nothing recording these are the plain kernels, with a tape recording each leaves its entry. An
// op says so with RecordOptions::double_backward; without it, create_graph stops there with an error.
#pragma once

#include <any>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "weft/engine/hooks.h"
#include "weft/engine/in_force.h"
#include "weft/engine/tensor.h"

namespace weft {

class Trace;
struct BackwardWalk;

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
    Tensor::Moment moment;  ///< when it was recorded

    Slot() = default;
    explicit Slot(const Tensor& t)
        : variable(t.variable()), shape(t.shape()), dtype(t.dtype()), device(t.device()), moment(t) {}
  };
  std::string_view op;        ///< "conv2d"; the text is the caller's, see record()
  std::string detail;         ///< "3x3 stride 2, pad 1"
  std::string scope;          ///< path of the module that ran it: "stem.0.conv"
  int64_t multiply_adds = 0;  ///< of the forward pass; 0 for ops that are not matrix products
  std::vector<Slot> inputs, outputs;
  bool looks_back = true;            ///< see RecordOptions
  std::vector<Tensor::Moment> also;  ///< of RecordOptions::also
  BackwardFunction backward;         ///< empty once passed
  bool double_backward = false;      ///< see RecordOptions
};

/// What a backward function is given and what it fills.
class BackwardContext {
 public:
  /// Gradient of the loss with respect to output i; same shape as the output. Never undefined.
  const Tensor& grad_output(int i = 0) const { return grad_outputs_[output(i)]; }
  /// Whether input i wants a gradient.
  bool needs(int i) const { return wanted(input(i).variable.get()); }
  /// The same handed over, so that who works on it may overwrite it; grad_output(i) is undefined then.
  Tensor take_grad_output(int i = 0) { return std::move(grad_outputs_[output(i)]); }
  /// Hands over the gradient of input i, of its shape and, but for 16 bits beside f32, its dtype; ignored
  /// where it is not needed. Adds where called twice.
  void set(int i, Tensor grad);
  /// Calls work(), which makes the gradient of the leaf that input i is out of the tensors `from`, before it
  /// is set(). On a GPU that work is done beside what follows, as long as nobody looks at the gradient.
  void beside(int i, std::vector<Tensor> from, const std::function<void()>& work);
  /// Hands over what input i has been given so far, for who can add the rest to it in the kernel that makes
  /// it, and then set()s the sum. It may be overwritten where it is unique(). Undefined where nothing was
  /// given yet, and where each part is to come to set() by itself: for a leaf, with create_graph, under
  /// DetectAnomaly, and where the sum is of another dtype than the input.
  Tensor take_sum(int i);
  /// Whether the tape records this backward pass. Ops called here are recorded then by themselves; this is
  /// for who has a faster way that can't be.
  bool create_graph() const;
  /// Whether the entry may be walked back again, and so must keep what it has saved.
  bool retain_graph() const;

 private:
  friend struct BackwardWalk;
  bool wanted(const Variable* variable) const;
  // Checked: an op of a user's own may ask for one too many.
  const TapeEntry::Slot& input(int i) const;
  size_t output(int i) const;

  BackwardWalk* walk_ = nullptr;
  std::vector<Tensor> grad_outputs_;
  std::span<const TapeEntry::Slot> inputs_;
  std::string_view op_, scope_;

 public:
  /// For checkpoint(), whose backward is a walk of its own.
  BackwardWalk& walk() const { return *walk_; }
};

/// Called in backward with an entry and the gradients of its outputs, before its backward function runs. Only
/// looks: what it computes is not recorded.
using TapeHook = std::function<void(const TapeEntry& entry, std::span<const Tensor> grad_outputs)>;

struct BackwardOptions {
  bool retain_graph = false;  ///< keep what the entries have saved, so that the tape can be walked again
  bool create_graph = false;  ///< record the way back on this tape; implies retain_graph
  /// f32 parameters whose grad() may stay in the 16 bits that it came in, for an optimizer that takes it so
  /// (Optimizer::by_formula()). All others' gradients are of their own dtype.
  std::vector<Tensor> narrow = {};
};

struct GradOptions {
  std::vector<Tensor> grad_outputs = {};  ///< one per output, of its shape and dtype; none: ones, for scalars
  bool retain_graph = false, create_graph = false;  ///< as in BackwardOptions
  bool allow_unused = false;  ///< an input that no output depends on gives an undefined tensor, not an error
  bool materialize_grads = false;  ///< it gives zeros
};

class Tape {
 public:
  /// What a tape is for: to be walked back, or only to show what was computed (a sketch keeps no saved
  /// tensors).
  enum class Kind { full, sketch };
  /// Starts recording on this thread. Tapes nest: an inner one records instead of the outer one. They may end
  /// in any order, each on the thread where it began.
  explicit Tape(Kind kind = Kind::full);
  /// Stops recording. Intermediate results of a tape that has ended can't be used under another one.
  ~Tape();
  Tape(const Tape&) = delete;
  Tape& operator=(const Tape&) = delete;

  /// Walks the tape once in reverse from `loss` (one element) and adds into every leaf's grad(). Each entry's
  /// saved tensors are freed as it is passed; a second call is an error. Gradients of leaves add up over
  /// several tapes until zero_grad().
  ///
  /// With create_graph the walk itself is recorded, the gradients belong to this tape, and the tape can be
  /// walked again, which frees nothing until a walk without retain_graph. As in PyTorch; so a leaf's grad()
  /// keeps its history until zero_grad(), and grad() below is mostly the better choice.
  void backward(const Tensor& loss, const BackwardOptions& options = {});
  /// The same from an output of any shape with its gradient given.
  void backward(Tensor output, Tensor grad, const BackwardOptions& options = {});
  /// The gradients of `outputs`, summed over them, with respect to `inputs` (leaves, or results on this
  /// tape), as torch.autograd.grad: returned, and added to nobody's grad(). Only what leads to an input is
  /// walked. An Error where an input has no influence on the outputs, unless allow_unused or
  /// materialize_grads.
  std::vector<Tensor> grad(const std::vector<Tensor>& outputs, const std::vector<Tensor>& inputs,
                           const GradOptions& options = {});
  std::vector<Tensor> grad(const Tensor& output, const std::vector<Tensor>& inputs,
                           const GradOptions& options = {});

  /// The same memory as a tensor of this tape, whatever tape it was computed under: its gradient stays in its
  /// variable() after backward.
  Tensor input(const Tensor& x) const;
  /// What was recorded, in order.
  std::span<const TapeEntry> entries() const { return entries_; }
  /// Calls `hook` for the entry as backward reaches it; for all of them where entry is -1.
  RemovableHandle add_hook(TapeHook hook, int64_t entry = -1);
  /// A table: number, scope, op, detail, shapes of inputs and outputs.
  std::string to_string() const;
  /// The graph in Graphviz's DOT language: `dot -Tsvg tape.dot`.
  std::string to_dot() const;

  /// The tape that records on this thread, or null.
  static Tape* current();

 private:
  friend class Recorder;
  friend struct BackwardWalk;
  void check_walk(const Tensor& output, const Tensor& grad) const;

  uint64_t id_;
  Kind kind_;
  bool nested_;
  bool spent_ = false;
  std::vector<TapeEntry> entries_;
  HookList<std::pair<int64_t, TapeHook>> hooks_;
  InForce<Tape> in_force_;
};

/// Makes `tape` the one that records on this thread, or none if null, while it lives. Where the tape ends
/// before, none.
class RecordOn {
 public:
  explicit RecordOn(Tape* tape);
  ~RecordOn();
  RecordOn(const RecordOn&) = delete;
  RecordOn& operator=(const RecordOn&) = delete;

 private:
  InForce<Tape> in_force_;
};

/// Suspends recording on this thread while it lives, by tapes and by a Trace (trace.h).
class NoGrad : public RecordOn {
 public:
  NoGrad();
  ~NoGrad();

 private:
  InForce<Trace> untraced_;
};

/// What an op says of itself when it records.
struct RecordOptions {
  std::string detail = {};
  int64_t multiply_adds = 0;
  /// The backward function computes with recorded ops only, on tensors that it captured with their place on
  /// the tape (x, not x.detach()), so that it can be recorded and differentiated in its turn.
  bool double_backward = false;
  /// The backward function looks at what the inputs or the outputs held, which must not have been changed in
  /// place then.
  bool looks_back = true;
  /// What else it looks at that others may change: masks, labels.
  std::vector<Tensor> also = {};
  /// What it was told beside its tensors, for a Trace: its options, or a struct of ops/traced.h (see
  /// Trace::note()).
  std::any told = {};
};

/// True where an op on these inputs must be recorded: a tape records and an input requires a gradient.
bool recording(std::initializer_list<const Tensor*> inputs);
/// Records an op while a tape is alive (and a Trace, which keeps the tensors), with its backward if
/// recording(inputs). Undefined inputs (an absent bias) are skipped but keep their number. `backward`
/// captures only what it needs: capturing a tensor keeps its memory until the entry is passed. Ops without
/// inputs that require a gradient have none, and are there so that the tape shows the whole computation. Also
/// how a user adds an op of their own. `op` is kept as it is: a literal, or a text that outlives the tape.
/// Throws Error where an output is a parameter, or not of a floating type though gradients are to come
/// through it.
///
/// What backward captures is not copied, so what an op has read or made may not be changed in place between
/// forward and backward. Where an optimizer, fill() or copy_from() did so, through whatever view, backward
/// throws Error; through data() it goes unnoticed.
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
