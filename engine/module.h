// Module: a part of a network that owns parameters and buffers and knows them by name.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "weft/engine/hooks.h"
#include "weft/engine/safetensors.h"
#include "weft/engine/tape.h"
#include "weft/engine/tensor.h"

namespace weft {

/// A tensor to be trained and its dotted path from the root module: "stage0.0.conv1.weight".
struct Parameter {
  std::string name = {};
  Tensor tensor = {};
};

/// What load_state_dict() did not find a partner for: names that the module has and the dictionary lacks, and
/// the other way round. PyTorch's missing_keys and unexpected_keys.
struct IncompatibleKeys {
  std::vector<std::string> missing = {}, unexpected = {};
};

class Module;

/// Called before a module's forward with its input. What it returns takes the input's place; undefined:
/// nothing.
using ForwardPreHook = std::function<Tensor(Module& module, const Tensor& input)>;
/// Called after a module's forward. What it returns takes the output's place; undefined: nothing.
using ForwardHook = std::function<Tensor(Module& module, const Tensor& input, const Tensor& output)>;
/// Called in backward when the gradient of a module's input has been computed, with that of its output. What
/// it returns takes the place of the input's; undefined: nothing. grad_input is undefined where the input
/// wants no gradient (images); then the hook is called as backward enters the module.
using BackwardHook =
    std::function<Tensor(Module& module, const Tensor& grad_input, const Tensor& grad_output)>;

/// Base of all layers and models. Members register themselves with their parent as they are constructed:
///
///   struct Net : Module {
///     Linear hidden{*this, "hidden", 784, 100};
///     Linear head{*this, "head", 100, 10};
///     Tensor forward(const Tensor& x) override { return head(relu(hidden(x))); }
///   };
///
/// What has no such constructor, or is made at run time, is a child by register_module() or adopt().
///
/// Modules are neither copied nor moved: parents hold their addresses. One that only holds others and is
/// never called itself names what it holds on the tape by a ScopeName(name()) while they run.
///
/// In evaluation mode several threads may call one module at the same time, each with its own tape or none,
/// and take Tape::grad(): Tape::backward() adds to the grad() that all threads share, and is for one at a
/// time. Nor may one train the module meanwhile, load it or change its mode.
class Module {
 public:
  Module() = default;
  /// A child of `parent` under `name`. Throws if the name is taken or has a dot in it.
  Module(Module& parent, std::string_view name);
  virtual ~Module();
  Module(const Module&) = delete;
  Module& operator=(const Module&) = delete;

  /// Computes the output. A module whose input is not one tensor declares a forward of its own instead, and
  /// says `using Module::forward;` beside it where a compiler warns of a hidden one (-Woverloaded-virtual).
  virtual Tensor forward(const Tensor& x);
  /// forward(x), with the module's name on the tape entries that it records.
  Tensor operator()(const Tensor& x);
  /// Its name in the parent; empty for a root.
  const std::string& name() const { return name_; }
  /// What it is, for the summary: "Conv2d(3, 32, kernel 3, stride 2)".
  virtual std::string description() const { return "Module"; }

  /// Own and children's parameters, depth first in order of registration; one that is registered in several
  /// places (tied weights) once, under its first name. With `prefix` the names begin with it and a dot: for
  /// parts of a network in one optimizer.
  std::vector<Parameter> parameters(std::string_view prefix = {}) const;
  /// State that is not trained (running statistics), likewise.
  std::vector<Parameter> buffers() const;
  /// Parameters and buffers by name; the tensors are shared with the module.
  StateDict state_dict() const;
  /// Copies values in. Strict: every name on either side must have its partner. Throws Error that names what
  /// is missing, left over or of another shape, and then changes nothing. Not strict: names without a partner
  /// are passed over and returned (look at them: with a wrong prefix it is all of them), other shapes are an
  /// error all the same.
  IncompatibleKeys load_state_dict(const StateDict& dict, bool strict = true);

  /// Training or evaluation mode, for itself and all children (batch norm, dropout).
  void train(bool on = true);
  void eval() { train(false); }
  bool training() const { return training_; }
  /// Evaluation mode for good: from now on weights count as constant, so that layers may keep them in the
  /// form that their kernels read. Conv2d and Linear do on the CPU; it takes as much memory again, half in
  /// bf16, and pays with few pictures at a time. Results may differ from those of eval() in the last digits.
  /// What load_state_dict(), to(), fill(), copy_from() or an optimizer changes is noticed, what is written
  /// through data() is not. train() ends it.
  void optimize_for_inference();
  bool optimized_for_inference() const { return optimized_; }
  /// Keeps only the input of this module's forward in training, and computes the rest again in backward (see
  /// checkpoint()): less memory, more time, the same bits. Not for a module that forward() alone is called
  /// on.
  void recompute(bool on = true) { recompute_ = on; }
  /// Whether it does so.
  bool recomputes() const { return recompute_; }
  void zero_grad();

  /// Hooks, as in PyTorch. They are called where the module is called, module(x); forward(x) alone calls
  /// none. Several are called in the order in which they came. In a recomputed module those of the modules
  /// inside are called in both runs. The module must live until the tape has been walked back.
  RemovableHandle register_forward_pre_hook(ForwardPreHook hook) {
    return hooks().forward_pre.add(std::move(hook));
  }
  RemovableHandle register_forward_hook(ForwardHook hook) { return hooks().forward.add(std::move(hook)); }
  /// The gradients are those of this call, before they are added to others of the same tensor.
  RemovableHandle register_full_backward_hook(BackwardHook hook) {
    return hooks().backward.add(std::move(hook));
  }
  /// Whether it has any now. A module that has none may be computed within another one's op.
  bool has_hooks() const {
    return hooks_ && !(hooks_->forward_pre.empty() && hooks_->forward.empty() && hooks_->backward.empty());
  }

  /// Converts all parameters and buffers (f64 for gradient checks).
  void to(DType dtype);
  /// Moves all parameters and buffers. Optimizers are to be made after that.
  void to(Device device);
  int64_t num_parameters() const;

  struct Child {
    std::string name;
    Module* module;
  };
  const std::vector<Child>& children() const { return children_; }
  /// Calls visit(path, module) for itself ("") and all modules below, parents first.
  void visit(const std::function<void(const std::string& path, Module& module)>& visit);

 protected:
  /// A child of *parent, or a root where that is null: for models that are either.
  Module(Module* parent, std::string_view name);
  /// Makes a root a child of this one, as if it had been constructed with it, and hands it back; its mode
  /// stays as it is. For members whose class has no such constructor:
  ///
  ///   struct Net : Module {
  ///     Backbone body;  // a module, too
  ///     Net() { register_module("body", body); }
  ///
  /// Throws if the name is taken or has a dot in it, or the module has a parent already.
  Module& register_module(std::string_view name, Module& module);
  /// The same, and keeps it: for what is made at run time.
  ///
  ///   Module& body = adopt("body", make_model("mxresnet18"));  // a member
  Module& adopt(std::string_view name, std::unique_ptr<Module> module);
  /// Registers a trained tensor and hands back its handle. To tie weights, register another module's: a
  /// tensor that is assigned to a member later computes, but is not what state_dict() and parameters() know.
  Tensor register_parameter(std::string_view name, Tensor value);
  /// Registers state that is saved but not trained.
  Tensor register_buffer(std::string_view name, Tensor value);
  /// compute(x) with the module's name on the tape and with its hooks: what an operator() is made of. For
  /// classes that declare one with more arguments; compute is given x, or what a hook has put in its place.
  template <class Compute>
  Tensor call(const Tensor& x, Compute&& compute) {
    const ScopeName scope(name_);
    return hooks_ ? call_hooked(x, compute) : compute(x);
  }

 private:
  friend class EvalGuard;
  struct Hooks {
    HookList<ForwardPreHook> forward_pre;
    HookList<ForwardHook> forward;
    HookList<BackwardHook> backward;
  };
  Hooks& hooks() {
    if (!hooks_) hooks_ = std::make_unique<Hooks>();
    return *hooks_;
  }
  Tensor call_hooked(const Tensor& x, const std::function<Tensor(const Tensor&)>& compute);
  struct Entry {
    std::string name;
    Tensor tensor;
    bool trained;
  };
  void collect(const std::string& prefix, bool parameters, bool buffers, StateDict& out) const;
  void check_name(std::string_view name) const;

  std::string name_;
  Module* parent_ = nullptr;
  bool training_ = true, recompute_ = false, optimized_ = false;
  std::unique_ptr<Hooks> hooks_;  // null until there is one
  std::vector<Entry> entries_;
  std::vector<Child> children_;
  std::vector<std::unique_ptr<Module>> adopted_;
};

}  // namespace weft
