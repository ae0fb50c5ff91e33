// Optimizer: the base of all optimizers. It knows parameters by group, walks them in one pass, counts steps
// and saves state.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <typeinfo>
#include <vector>

#include "weft/engine/module.h"
#include "weft/engine/safetensors.h"
#include "weft/engine/tensor.h"

namespace weft::optim {

/// A piece of one parameter's elements: what one task of a step works on.
struct ChunkRange {
  size_t entry = 0;
  int64_t begin = 0, end = 0;
};

/// Changes parameters by their gradients.
///
///   optim::Ranger opt(net.parameters(), {.lr = 4e-3, .betas = {0.95, 0.99}, .eps = 1e-6});
///   ... tape.backward(loss); opt.step(); opt.zero_grad();
///
/// Parameters lie in groups, each with options of its own (add_group of the concrete class). A parameter
/// without a gradient is passed over and its state stays as it is. Step counts that enter a formula (bias
/// correction) are kept for each parameter, as in PyTorch, so that one which joins late is corrected rightly.
/// Parameters are f32 or f64, all on one device; on the GPU f32. There the state lies beside them, a step is
/// one or two launches for each group and waits for nothing, and it can be captured (kernels::cuda::capture):
/// each launch of the graph counts as a step and takes the learning rates of its time. The optimizer must
/// live as long as the graph, and the gradients are those of the capture.
///
/// A step gives the same bits for any number of threads. NaN and infinity in a gradient go through to the
/// parameter.
///
/// A class of one's own is a FormulaOptimizer as a rule (formula_optimizer.h). One that derives from this
/// says append_group() in its constructor; its step() begins with check_gradients() and advance(), counts
/// each parameter's update in Entry::updates, and says Tensor::count_change() of what it writes through
/// data().
class Optimizer {
 public:
  Optimizer() = default;
  virtual ~Optimizer() = default;
  Optimizer(const Optimizer&) = delete;
  Optimizer& operator=(const Optimizer&) = delete;

  /// Its name in messages: "adam".
  virtual const char* name() const = 0;
  /// One update of all parameters that have a gradient. Throws Error, and then changes nothing, where there
  /// are no parameters, a gradient does not fit its parameter, or a parameter has changed its shape, dtype or
  /// device since it was added.
  virtual void step() = 0;
  /// Drops the gradients of all parameters.
  void zero_grad();
  /// How often step() was called.
  int64_t steps() const { return count(steps_); }

  size_t num_groups() const { return groups_.size(); }
  /// The parameters of all groups, or of one.
  std::vector<Parameter> parameters() const;
  std::vector<Parameter> parameters(size_t group) const;
  /// By place in parameters(): whether it is not frozen.
  std::vector<bool> trained() const;

  /// The learning rate of a group.
  virtual double lr(size_t group) const = 0;
  virtual void set_lr(size_t group, double lr) = 0;
  /// What a schedule multiplies: the learning rate that the group was added with, or set_initial_lr().
  double initial_lr(size_t group) const { return at(group).initial_lr; }
  /// Sets that and lr().
  void set_initial_lr(size_t group, double lr);
  /// Whether the group has a momentum to set: beta1 in the Adam family, in Muon beta1 of its AdamW too; false
  /// for SGD built with momentum 0.
  virtual bool has_momentum(size_t group) const = 0;
  virtual double momentum(size_t group) const = 0;
  virtual void set_momentum(size_t group, double momentum) = 0;
  virtual double weight_decay(size_t group) const = 0;
  virtual void set_weight_decay(size_t group, double weight_decay) = 0;
  /// Whether an element's update depends on no other element, so that a tensor is updated as its pieces are.
  virtual bool by_element() const = 0;
  /// Whether step() reads gradients and changes parameters by formulas alone (MultiTensor), and nothing else
  /// does. Then it takes gradients in 16 bits as they are (BackwardOptions::narrow), and keeps copies of the
  /// weights fresh (WeightCopies::Follow). A class answers for itself only: what derives from it may do more.
  virtual bool by_formula() const { return false; }
  /// How many tensors of a parameter's size a step must move a second time, because norms of them come first.
  virtual int moved_again() const { return 0; }
  /// Operations of a step in matrix products, a multiply-add counting two, where every parameter has a
  /// gradient: 0 where there are none.
  virtual double product_flops() const { return 0; }

  /// All that a resumed run needs: "step", and for each parameter "<path>/step" and "<path>/<slot>" with
  /// PyTorch's slot names ("exp_avg"). The tensors are shared with the optimizer (clone them to keep a moment
  /// in time). Options are not in it: they come from the program, and learning rates from a schedule, which
  /// is a pure function of the step.
  virtual StateDict state_dict() const;
  /// Copies the state in. Throws Error, and then changes nothing, where a name is missing, left over or there
  /// twice, or has another shape or dtype.
  void load_state_dict(const StateDict& dict);

 protected:
  /// A parameter and what the optimizer keeps for it.
  struct Entry {
    Parameter param;
    Shape shape;                // as added
    DType dtype = DType::f32;   // as added
    Tensor updates;             // i64 scalar: how often it was updated
    std::vector<Tensor> state;  // one for each of the group's slots
  };
  /// A state tensor that each parameter of a group has: of the parameter's shape and dtype, or an f64 scalar.
  struct Slot {
    std::string name;
    bool scalar = false;
  };
  struct Group {
    std::vector<Entry> entries;
    std::vector<Slot> slots;
    std::vector<ChunkRange> chunks;
    double initial_lr = 0;
    Tensor gpu_memory;  // what a step uploads, and sums; see MultiTensor
  };
  friend class MultiTensor;
  friend class Lookahead;
  friend class GradScaler;

  /// Appends a group with zeroed state. Throws Error on an undefined, integer or doubly added parameter or
  /// name.
  void append_group(const std::vector<Parameter>& parameters, std::vector<Slot> slots, double initial_lr);
  /// Throws where a parameter and its gradient or its state do not fit. To be called before a step changes
  /// anything.
  void check_gradients() const;
  /// Whether this is a `Self` and of no class derived from it.
  template <class Self>
  bool is_just() const {
    return typeid(*this) == typeid(Self);
  }
  /// Counts one call of step().
  void advance() { ++*steps_.data<int64_t>(); }
  /// On the GPU: an f32 scalar that lets the steps that follow change nothing where it is not 0; they count
  /// all the same. Undefined: none. For GradScaler.
  virtual void set_skip(const Tensor& flag) { skip_ = flag; }
  /// Takes steps that were left out off the counts of those parameters, by place in parameters().
  virtual void uncount(int64_t steps, const std::vector<bool>& of);
  const Group& at(size_t group) const;
  /// Throws unless lr is finite and not negative.
  void check_lr(double lr) const;

  static int64_t count(const Tensor& t) { return *t.data<int64_t>(); }

  std::vector<Group> groups_;
  Device device_ = Device::cpu;  // of all parameters
  Tensor skip_;                  // see set_skip()
  /// Called before each update of a parameter, with its group and its place there. For Lookahead.
  std::function<void(size_t group, size_t entry)> before_update_;
  /// Called after each new group. For Lookahead.
  std::function<void()> group_added_;
  Tensor steps_ = Tensor::zeros({}, DType::i64);
};

}  // namespace weft::optim
