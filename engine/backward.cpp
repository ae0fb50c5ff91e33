// The way back over a tape: Tape::backward and Tape::grad.
#include <algorithm>
#include <utility>

#include "weft/engine/anomaly.h"
#include "weft/engine/backward_walk.h"
#include "weft/engine/ops/elementwise.h"
#include "weft/engine/ops/helpers.h"
#include "weft/engine/profile.h"

namespace weft {
namespace {

// The walk holds on to an entry's vectors while the list of entries grows.
static_assert(std::is_nothrow_move_constructible_v<TapeEntry>);

/// The backward of an entry as a range in NVIDIA's profilers.
class Range {
 public:
  explicit Range(const TapeEntry& entry) : on_(kernels::cuda::ranges_on()) {
    if (on_) kernels::cuda::push_range(concat(entry.scope, " ", entry.op, " backward").c_str());
  }
  ~Range() {
    if (on_) kernels::cuda::pop_range();
  }
  Range(const Range&) = delete;
  Range& operator=(const Range&) = delete;

 private:
  bool on_;
};

/// slot += grad, in place where nobody else holds the sum. The first gradient of an f32 parameter in a 16-bit
/// type stays in that until widen_gradients(); a sum is f32.
void add_to(Tensor& slot, Tensor grad, bool leaf) {
  if (slot.defined() && leaf) {
    if (is_half(slot.dtype())) slot = slot.to(DType::f32);
    if (is_half(grad.dtype())) grad = grad.to(DType::f32);
  }
  if (!slot.defined()) {
    // A leaf's gradient is the user's to change in place, so it must not be shared with another one.
    slot = leaf && !grad.unique() ? grad.clone() : std::move(grad);
    return;
  }
  if (slot.variable()) slot = slot.detach();  // has a history on another tape
  dispatch("backward", slot, [&](const auto& k) {
    using T = kernel_type<decltype(k)>;
    Tensor target = slot.unique() ? slot : Tensor::empty(slot.shape(), slot.dtype(), slot.device());
    const kernels::Broadcast how = ops::broadcast(slot.shape(), slot.shape(), slot.shape());
    k.binary(kernels::Binary::add, how, slot.data<T>(), grad.data<T>(), target.template data<T>());
    slot = target;
  });
}

/// The same as recorded ops.
void add_to_recorded(Tensor& slot, Tensor grad, bool leaf, uint64_t tape) {
  if (!slot.defined()) {
    slot = leaf && !grad.unique() ? affine(grad, 1) : std::move(grad);
    return;
  }
  // A leaf (what the walk began with) belongs to every tape; a history on another tape has ended.
  if (const Variable* v = slot.variable().get(); v && !v->leaf && v->tape != tape) slot = slot.detach();
  if (leaf && is_half(slot.dtype())) slot = slot.to(grad.dtype());  // left narrow by an earlier walk
  slot = add(slot, grad);
}

template <class From>
void widen(const std::vector<Variable*>& variables) {
  std::vector<kernels::cuda::Conversion<From, float>> list;
  std::vector<Tensor> narrow;
  for (Variable* v : variables) {
    if (v->grad.dtype() != dtype_of<From>()) continue;
    narrow.push_back(std::exchange(v->grad, Tensor::empty(v->grad.shape(), DType::f32, Device::cuda)));
    list.push_back({narrow.back().data<From>(), v->grad.data<float>(), v->grad.numel()});
  }
  if (!list.empty())
    kernels::cuda::convert_all(std::span<const kernels::cuda::Conversion<From, float>>(list));
}

/// Converts to f32 what gradients of f32 parameters came in 16 bits, but of those that `may_stay`: all of
/// them in one launch.
void widen_gradients(std::span<const TapeEntry> entries, const std::vector<Tensor>& may_stay) {
  std::unordered_set<const Variable*> stay;
  for (const Tensor& t : may_stay) stay.insert(t.variable().get());
  std::vector<Variable*> narrow;
  for (const TapeEntry& entry : entries)
    for (const TapeEntry::Slot& slot : entry.inputs) {
      Variable* v = slot.variable.get();
      if (slot.dtype == DType::f32 && v && v->leaf && v->grad.defined() && is_half(v->grad.dtype()) &&
          !stay.contains(v) && std::find(narrow.begin(), narrow.end(), v) == narrow.end())
        narrow.push_back(v);
    }
  widen<bf16>(narrow);
  widen<f16>(narrow);
}

/// Leaves' gradients put aside, so that a walk can use their place; put back at the end.
class PutAside {
 public:
  void add(const std::shared_ptr<Variable>& variable) {
    for (const auto& [known, grad] : saved_)
      if (known == variable) return;
    saved_.emplace_back(variable, std::exchange(variable->grad, {}));
  }
  ~PutAside() {
    for (auto& [variable, grad] : saved_) variable->grad = std::move(grad);
  }
  PutAside() = default;
  PutAside(const PutAside&) = delete;
  PutAside& operator=(const PutAside&) = delete;

 private:
  std::vector<std::pair<std::shared_ptr<Variable>, Tensor>> saved_;
};

/// Throws where the backward of an entry would look at other elements than its forward pass did.
void check_unchanged(const TapeEntry& entry) {
  if (!entry.looks_back) return;
  const auto check_moment = [&](const Tensor::Moment& moment, const auto&... what) {
    check(!moment.has_passed(), entry.op, entry.scope.empty() ? "" : " in ", entry.scope, ": ", what...,
          " was changed in place after the forward pass (by an optimizer's step, fill() or copy_from()); "
          "walk back before, or compute again after it");
  };
  for (size_t k = 0; k < entry.inputs.size(); ++k)
    check_moment(entry.inputs[k].moment, "input ", k, " ", entry.inputs[k].shape);
  for (size_t k = 0; k < entry.outputs.size(); ++k)
    check_moment(entry.outputs[k].moment, "output ", k, " ", entry.outputs[k].shape);
  for (const Tensor::Moment& moment : entry.also) check_moment(moment, "a mask or labels");
}

}  // namespace

bool BackwardContext::create_graph() const { return walk_->create_graph; }
bool BackwardContext::retain_graph() const { return walk_->retain_graph; }
bool BackwardContext::wanted(const Variable* variable) const { return walk_->wants(variable); }

const TapeEntry::Slot& BackwardContext::input(int i) const {
  check(i >= 0 && size_t(i) < inputs_.size(), op_, ": backward asks for input ", i, ", but there are ",
        inputs_.size());
  return inputs_[size_t(i)];
}
size_t BackwardContext::output(int i) const {
  check(i >= 0 && size_t(i) < grad_outputs_.size(), op_, ": backward asks for output ", i, ", but there are ",
        grad_outputs_.size());
  return size_t(i);
}

void BackwardContext::set(int i, Tensor grad) {
  if (!needs(i)) return;
  const TapeEntry::Slot& input = inputs_[size_t(i)];
  check(grad.shape() == input.shape, op_, ": backward gave input ", i, " a gradient of shape ", grad.shape(),
        ", but the input is ", input.shape);
  check(is_floating(grad.dtype()) && (grad.dtype() == DType::f64) == (input.dtype == DType::f64), op_,
        ": backward gave input ", i, " a gradient of ", grad.dtype(), ", but the input is ", input.dtype);
  if (DetectAnomaly* anomaly = DetectAnomaly::current())
    anomaly->check_gradient(op_, scope_, i, grad, grad_outputs_);
  if (create_graph())
    grad = cast(grad, input.dtype);
  else if (is_half(grad.dtype()) && !is_half(input.dtype) && !input.variable->leaf)
    grad = grad.to(input.dtype);
  walk_->accumulate(*input.variable, std::move(grad));
}

Tensor BackwardContext::take_sum(int i) {
  const TapeEntry::Slot& input = this->input(i);
  if (!needs(i) || input.variable->leaf || create_graph() || DetectAnomaly::current()) return {};
  Tensor& sum = input.variable->grad;
  if (!sum.defined() || sum.variable() || sum.dtype() != input.dtype) return {};
  return std::exchange(sum, {});
}

void BackwardContext::beside(int i, std::vector<Tensor> from, const std::function<void()>& work) {
  const Variable& leaf = *input(i).variable;
  if (!leaf.leaf || leaf.grad.defined() || from.at(0).device() != Device::cuda || create_graph() ||
      DetectAnomaly::current() || Profiler::current())
    return work();
  walk_->beside(std::move(from), work);
}

// A few at once: more would keep memory that the next passes could use while the cache still has it.
void BackwardWalk::beside(std::vector<Tensor> from, const std::function<void()>& work) {
  constexpr size_t kAtOnce = 4;
  join(kAtOnce - 1);
  const int64_t number = kernels::cuda::run_beside(work);
  going_on.emplace_back(number, std::move(from));
}

BackwardWalk::~BackwardWalk() {
  try {
    join();
  } catch (const std::exception&) {
    // CUDA is broken then, and says so again at the next call.
  }
}

void BackwardWalk::join(size_t left) {
  for (; going_on.size() > left; going_on.pop_front()) kernels::cuda::await_beside(going_on.front().first);
}

void BackwardWalk::accumulate(Variable& variable, Tensor grad) {
  if (variable.leaf && variable.grad.defined()) join();
  if (create_graph)
    add_to_recorded(variable.grad, std::move(grad), variable.leaf, tape.id_);
  else
    add_to(variable.grad, std::move(grad), variable.leaf);
}

void BackwardWalk::mark(size_t begin, size_t end) {
  if (!restricted) return;
  for (size_t i = begin; i < end; ++i) {
    const TapeEntry& entry = tape.entries_[i];
    if (!entry.backward) continue;
    bool leads = false;
    for (const auto& slot : entry.inputs) leads |= wants(slot.variable.get());
    for (size_t k = 0; leads && k < entry.outputs.size(); ++k)
      if (const Variable* v = entry.outputs[k].variable.get()) wanted.insert(v);
  }
}

void BackwardWalk::pass(size_t i) {
  // The list of entries may grow in here; what belongs to an entry keeps its place in memory.
  TapeEntry* entry = &tape.entries_[i];
  struct Function {  // freed in the end, or given back
    BackwardFunction call;
    std::vector<TapeEntry>* entries;
    size_t i;
    ~Function() {
      if (entries) (*entries)[i].backward = std::move(call);
    }
  } function{std::exchange(entry->backward, nullptr), retain_graph ? &tape.entries_ : nullptr, i};
  if (!function.call) return;
  bool reached = false, leads = !restricted;
  for (const auto& slot : entry->outputs) reached |= slot.variable && slot.variable->grad.defined();
  if (!reached) return;

  BackwardContext context;
  context.walk_ = this;
  context.op_ = entry->op;
  for (const auto& slot : entry->outputs) {
    Tensor g = slot.variable ? std::exchange(slot.variable->grad, {}) : Tensor();
    if (g.defined() && !passed.empty())
      if (const auto asked = passed.find(slot.variable.get()); asked != passed.end()) asked->second = g;
    context.grad_outputs_.push_back(g.defined() ? std::move(g)
                                                : Tensor::zeros(slot.shape, slot.dtype, slot.device));
  }
  for (const auto& slot : entry->inputs) leads |= wants(slot.variable.get());
  if (!leads) return;
  check_unchanged(*entry);
  check(!create_graph || entry->double_backward, entry->op, entry->scope.empty() ? "" : " in ", entry->scope,
        ": has no second derivative, its backward is not made of recorded ops (create_graph; see "
        "RecordOptions::double_backward)");
  if (!tape.hooks_.empty()) {
    join();  // they may look at gradients
    const NoGrad only_look;
    tape.hooks_.each([&](const auto& hook) {
      if (hook.first < 0 || hook.first == int64_t(i)) hook.second(*entry, context.grad_outputs_);
    });
  }
  context.inputs_ = entry->inputs;
  const std::string kept = create_graph ? entry->scope : std::string();  // its place may change then
  const std::string_view scope = create_graph ? std::string_view(kept) : entry->scope;
  context.scope_ = scope;
  const Range range(*entry);
  const ScopeName name(create_graph ? scope : "");
  function.call(context);
  if (Profiler* profiler = Profiler::current())
    profiler->passed(tape.entries_[i], ProfileEvent::Pass::backward);
}

void BackwardWalk::run(size_t begin, size_t end) {
  for (size_t i = end; i-- > begin;) pass(i);
  join();
}

void BackwardWalk::run() {
  if (!retain_graph) tape.spent_ = true;
  const RecordOn recorded(create_graph ? &tape : nullptr);
  const DetectAnomaly::WalkBack unrecorded(!create_graph);
  try {
    run(0, tape.entries_.size());
  } catch (...) {
    for (const TapeEntry& entry : tape.entries_)  // half of a sum is nothing to go on from
      for (const auto& slot : entry.outputs)
        if (slot.variable && !slot.variable->leaf) slot.variable->grad = {};
    throw;
  }
}

void BackwardWalk::from(Variable& y, Tensor dy, size_t begin) {
  const size_t end = tape.entries_.size();
  mark(begin, end);
  accumulate(y, std::move(dy));
  run(begin, end);
}

void Tape::check_walk(const Tensor& output, const Tensor& grad) const {
  check(!spent_,
        "backward: this tape has been walked back already and its saved tensors are freed; record the "
        "computation again under a new Tape, or walk back the first time with retain_graph");
  check(output.requires_grad(),
        "backward: the output depends on no tensor that requires a gradient, or was computed while no tape "
        "was alive");
  check(output.variable()->leaf || output.variable()->tape == id_,
        "backward: the output was recorded on another tape");
  check(grad.shape() == output.shape() && grad.dtype() == output.dtype(), "backward: a gradient of ",
        grad.dtype(), " ", grad.shape(), " does not fit an output of ", output.dtype(), " ", output.shape());
  check(kind_ == Kind::full, "backward: this tape is a sketch, which keeps nothing to walk back with");
}

void Tape::backward(const Tensor& loss, const BackwardOptions& options) {
  check(loss.numel() == 1, "backward: the loss has shape ", loss.shape(),
        ", not one element; reduce it with sum() or mean(), or give its gradient");
  backward(loss, Tensor::ones(loss.shape(), loss.dtype(), loss.device()), options);
}

void Tape::backward(Tensor output, Tensor grad, const BackwardOptions& options) {
  check_walk(output, grad);
  BackwardWalk walk{*this, options.create_graph, options.retain_graph || options.create_graph};
  {
    const RecordOn recorded(options.create_graph ? this : nullptr);
    walk.accumulate(*output.variable(), std::move(grad));
  }
  output = {};  // its memory may be free now
  walk.run();
  if (!options.create_graph) widen_gradients(entries_, options.narrow);
}

std::vector<Tensor> Tape::grad(const Tensor& output, const std::vector<Tensor>& inputs,
                               const GradOptions& options) {
  return grad(std::vector<Tensor>{output}, inputs, options);
}

std::vector<Tensor> Tape::grad(const std::vector<Tensor>& outputs, const std::vector<Tensor>& inputs,
                               const GradOptions& options) {
  check(options.grad_outputs.empty() || options.grad_outputs.size() == outputs.size(),
        "grad: ", options.grad_outputs.size(), " grad_outputs were given for ", outputs.size(), " outputs");
  std::vector<Tensor> grads = options.grad_outputs;
  for (size_t i = 0; i < outputs.size(); ++i) {
    const Tensor& y = outputs[i];
    if (options.grad_outputs.empty()) {
      check(y.numel() == 1, "grad: output ", i, " has shape ", y.shape(),
            ", not one element; reduce it with sum() or mean(), or give grad_outputs");
      grads.push_back(Tensor::ones(y.shape(), y.dtype(), y.device()));
    }
    check_walk(y, grads[i]);
  }
  BackwardWalk walk{*this, options.create_graph, options.retain_graph || options.create_graph,
                    /*restricted=*/true};
  PutAside aside;
  for (size_t i = 0; i < inputs.size(); ++i) {
    check(inputs[i].requires_grad(), "grad: input ", i, " ", inputs[i].shape(),
          " requires no gradient; call set_requires_grad() before it is used");
    const std::shared_ptr<Variable>& v = inputs[i].variable();
    check(v->leaf || v->tape == id_, "grad: input ", i, " ", inputs[i].shape(), " belongs to another tape");
    walk.wanted.insert(v.get());
    if (v->leaf || v->entry < 0)
      aside.add(v);
    else
      walk.passed[v.get()] = {};
  }
  walk.mark(0, entries_.size());
  {
    const RecordOn recorded(options.create_graph ? this : nullptr);
    for (size_t i = 0; i < outputs.size(); ++i)
      if (walk.wants(outputs[i].variable().get()))
        walk.accumulate(*outputs[i].variable(), std::move(grads[i]));
  }
  walk.run();

  std::vector<Tensor> result;
  for (size_t i = 0; i < inputs.size(); ++i) {
    const Variable* v = inputs[i].variable().get();
    const auto asked = walk.passed.find(v);
    Tensor g = asked == walk.passed.end() ? v->grad : asked->second;
    if (!g.defined()) {
      check(options.allow_unused || options.materialize_grads, "grad: the outputs do not depend on input ", i,
            " ", inputs[i].shape(), "; leave it out, or set allow_unused or materialize_grads");
      if (options.materialize_grads)
        g = Tensor::zeros(inputs[i].shape(), inputs[i].dtype(), inputs[i].device());
    } else if (!options.create_graph) {
      g = g.to(inputs[i].dtype());
    }
    result.push_back(std::move(g));
  }
  return result;
}

}  // namespace weft
