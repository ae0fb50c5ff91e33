#include "weft/engine/tape.h"

#include <algorithm>
#include <atomic>
#include <iomanip>
#include <sstream>
#include <utility>

#include "weft/engine/dispatch.h"
#include "weft/engine/profile.h"

namespace weft {
namespace {

thread_local Tape* recorder = nullptr;
thread_local std::string scope_path;
std::atomic<uint64_t> next_tape_id{1};

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

/// variable.grad += grad, in place where nobody else holds the sum. The first gradient of an f32 parameter in
/// a 16-bit type stays in that until widen_gradients(); a sum is f32.
void accumulate(Variable& variable, Tensor grad) {
  Tensor& slot = variable.grad;
  if (slot.defined() && variable.leaf) {
    if (is_half(slot.dtype())) slot = slot.to(DType::f32);
    if (is_half(grad.dtype())) grad = grad.to(DType::f32);
  }
  if (!slot.defined()) {
    // A leaf's gradient is the user's to change in place, so it must not be shared with another one.
    slot = variable.leaf && !grad.unique() ? grad.clone() : std::move(grad);
    return;
  }
  dispatch("backward", slot, [&](const auto& k) {
    using T = kernel_type<decltype(k)>;
    Tensor target = slot.unique() ? slot : Tensor::empty(slot.shape(), slot.dtype(), slot.device());
    kernels::Broadcast flat;
    flat.ndim = 1;
    flat.size[0] = slot.numel();
    flat.a_stride[0] = flat.b_stride[0] = 1;
    k.binary(kernels::Binary::add, flat, slot.data<T>(), grad.data<T>(), target.template data<T>());
    slot = target;
  });
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

/// Converts to f32 what gradients of f32 parameters came in 16 bits: all of them in one launch.
void widen_gradients(std::span<const TapeEntry> entries) {
  std::vector<Variable*> narrow;
  for (const TapeEntry& entry : entries)
    for (const TapeEntry::Slot& slot : entry.inputs) {
      Variable* v = slot.variable.get();
      if (slot.dtype == DType::f32 && v && v->leaf && v->grad.defined() && is_half(v->grad.dtype()) &&
          std::find(narrow.begin(), narrow.end(), v) == narrow.end())
        narrow.push_back(v);
    }
  widen<bf16>(narrow);
  widen<f16>(narrow);
}

std::string shapes(const std::vector<TapeEntry::Slot>& slots) {
  std::string s;
  for (const auto& slot : slots) s += (s.empty() ? "" : " ") + slot.shape.to_string();
  return s;
}

}  // namespace

void BackwardContext::set(int i, Tensor grad) {
  if (!needs(i)) return;
  const TapeEntry::Slot& input = inputs_[size_t(i)];
  check(grad.shape() == input.shape, op_, ": backward gave input ", i, " a gradient of shape ", grad.shape(),
        ", but the input is ", input.shape);
  if (is_half(grad.dtype()) && !is_half(input.dtype) && !input.variable->leaf) grad = grad.to(input.dtype);
  accumulate(*input.variable, std::move(grad));
}

Tape::Tape(Kind kind) : id_(next_tape_id++), kind_(kind), outer_(recorder) { recorder = this; }
Tape::~Tape() {
  if (recorder == this) recorder = outer_;
}

Tape* Tape::current() { return recorder; }

Tensor Tape::input(const Tensor& x) const {
  Tensor t = x.detach();
  t.set_variable(std::make_shared<Variable>(Variable{.leaf = false, .tape = id_, .entry = -1, .grad = {}}));
  return t;
}

NoGrad::NoGrad() : suspended_(recorder) { recorder = nullptr; }
NoGrad::~NoGrad() { recorder = suspended_; }

ScopeName::ScopeName(std::string_view name) : length_(scope_path.size()) {
  if (name.empty()) return;
  if (!scope_path.empty()) scope_path += '.';
  scope_path += name;
  if ((range_ = kernels::cuda::ranges_on())) kernels::cuda::push_range(scope_path.c_str());
}
ScopeName::~ScopeName() {
  scope_path.resize(length_);
  if (range_) kernels::cuda::pop_range();
}
const std::string& ScopeName::path() { return scope_path; }

bool recording(std::initializer_list<const Tensor*> inputs) {
  if (!recorder) return false;
  for (const Tensor* t : inputs)
    if (t->defined() && t->requires_grad()) return true;
  return false;
}

class Recorder {
 public:
  static void record(Tape& tape, std::string_view op, std::vector<TapeEntry::Slot> inputs,
                     const std::vector<Tensor>& outputs, BackwardFunction backward, RecordOptions options) {
    check(!tape.spent_, op, ": this tape has been walked back; start a new Tape for the next computation");
    TapeEntry entry;
    entry.op = op;
    entry.detail = std::move(options.detail);
    entry.scope = scope_path;
    entry.multiply_adds = options.multiply_adds;
    bool differentiable = false;
    for (size_t i = 0; i < inputs.size(); ++i) {
      const Variable* variable = inputs[i].variable.get();
      if (!variable) continue;
      differentiable = true;
      check(variable->leaf || variable->tape == tape.id_, op, ": input ", i, " ", inputs[i].shape,
            " was computed under another tape; detach() it, or compute it under this one",
            tape.outer_ ? ", or make it an input of the checkpoint()" : "");
    }
    entry.inputs = std::move(inputs);
    for (const Tensor& t : outputs) {
      if (differentiable && backward) {
        auto variable = std::make_shared<Variable>();
        variable->leaf = false;
        variable->tape = tape.id_;
        variable->entry = int64_t(tape.entries_.size());
        t.set_variable(std::move(variable));
      }
      entry.outputs.push_back({t.variable(), t.shape(), t.dtype(), t.device()});
    }
    if (differentiable && tape.kind_ == Tape::Kind::full) entry.backward = std::move(backward);
    tape.entries_.push_back(std::move(entry));
    if (Profiler* profiler = Profiler::current())
      profiler->passed(tape.entries_.back(), ProfileEvent::Pass::forward);
  }
};

void record(std::string_view op, const std::vector<Tensor>& inputs, const std::vector<Tensor>& outputs,
            BackwardFunction backward, RecordOptions options) {
  if (!recorder) return;
  std::vector<TapeEntry::Slot> slots(inputs.size());
  for (size_t i = 0; i < inputs.size(); ++i)
    if (const Tensor& t = inputs[i]; t.defined()) slots[i] = {t.variable(), t.shape(), t.dtype(), t.device()};
  Recorder::record(*recorder, op, std::move(slots), outputs, std::move(backward), std::move(options));
}

void record(std::string_view op, std::vector<TapeEntry::Slot> inputs, const std::vector<Tensor>& outputs,
            BackwardFunction backward, RecordOptions options) {
  if (recorder)
    Recorder::record(*recorder, op, std::move(inputs), outputs, std::move(backward), std::move(options));
}

void Tape::backward(const Tensor& loss) {
  check(loss.numel() == 1, "backward: the loss has shape ", loss.shape(),
        ", not one element; reduce it with sum() or mean(), or give its gradient");
  backward(loss, Tensor::ones(loss.shape(), loss.dtype(), loss.device()));
}

void Tape::backward(Tensor output, Tensor grad) {
  check(!spent_,
        "backward: this tape has been walked back already and its saved tensors are freed; record the "
        "computation "
        "again under a new Tape");
  check(output.requires_grad(),
        "backward: the output depends on no tensor that requires a gradient, or was computed while no "
        "tape was alive");
  check(output.variable()->leaf || output.variable()->tape == id_,
        "backward: the output was recorded on another tape");
  check(grad.shape() == output.shape() && grad.dtype() == output.dtype(), "backward: a gradient of ",
        grad.dtype(), " ", grad.shape(), " does not fit an output of ", output.dtype(), " ", output.shape());
  check(kind_ == Kind::full, "backward: this tape is a sketch, which keeps nothing to walk back with");
  spent_ = true;
  const NoGrad no_recording;
  accumulate(*output.variable(), std::move(grad));
  output = {};  // its memory may be free now

  for (size_t i = entries_.size(); i-- > 0;) {
    TapeEntry& entry = entries_[i];
    const BackwardFunction function = std::exchange(entry.backward, nullptr);
    if (!function) continue;
    bool reached = false;
    for (const auto& slot : entry.outputs) reached |= slot.variable && slot.variable->grad.defined();
    if (!reached) continue;

    BackwardContext context;
    context.op_ = entry.op;
    for (const auto& slot : entry.outputs) {
      Tensor g = slot.variable ? std::exchange(slot.variable->grad, {}) : Tensor();
      context.grad_outputs_.push_back(g.defined() ? std::move(g)
                                                  : Tensor::zeros(slot.shape, slot.dtype, slot.device));
    }
    for (const auto& [at, hook] : hooks_)
      if (at < 0 || at == int64_t(i)) hook(entry, context.grad_outputs_);
    context.inputs_ = entry.inputs;
    const Range range(entry);
    function(context);
    if (Profiler* profiler = Profiler::current()) profiler->passed(entry, ProfileEvent::Pass::backward);
  }
  widen_gradients(entries_);
}

void Tape::add_hook(TapeHook hook, int64_t entry) {
  check(entry < int64_t(entries_.size()), "add_hook: entry ", entry, " of a tape with ", entries_.size(),
        " entries");
  hooks_.emplace_back(entry, std::move(hook));
}

std::string Tape::to_string() const {
  std::ostringstream out;
  out << std::left << std::setw(6) << "entry" << std::setw(28) << "scope" << std::setw(16) << "op"
      << std::setw(28) << "detail"
      << "inputs -> outputs\n";
  for (size_t i = 0; i < entries_.size(); ++i) {
    const TapeEntry& e = entries_[i];
    out << std::setw(5) << i << ' ' << std::setw(27) << e.scope << ' ' << std::setw(15) << e.op << ' '
        << std::setw(27) << e.detail << ' ' << shapes(e.inputs) << " -> " << shapes(e.outputs) << '\n';
  }
  return out.str();
}

std::string Tape::to_dot() const {
  std::ostringstream out;
  out << "digraph tape {\n  rankdir=TB;\n  node [shape=box, style=rounded, fontname=\"sans-serif\", "
         "fontsize=10];\n";
  std::vector<const Variable*> leaves;
  for (size_t i = 0; i < entries_.size(); ++i) {
    const TapeEntry& e = entries_[i];
    out << "  e" << i << " [label=\"" << e.op << (e.detail.empty() ? "" : "\\n" + e.detail)
        << (e.scope.empty() ? "" : "\\n" + e.scope) << "\"];\n";
    for (const auto& slot : e.inputs) {
      const Variable* v = slot.variable.get();
      if (!v) continue;
      if (!v->leaf) {
        if (v->entry < 0) continue;  // made by input()
        out << "  e" << v->entry << " -> e" << i << " [label=\"" << slot.shape << "\", fontsize=9];\n";
        continue;
      }
      size_t leaf = 0;
      while (leaf < leaves.size() && leaves[leaf] != v) ++leaf;
      if (leaf == leaves.size()) {
        leaves.push_back(v);
        out << "  p" << leaf << " [shape=ellipse, style=filled, fillcolor=\"#e8f0e0\", label=\"leaf "
            << slot.shape << "\"];\n";
      }
      out << "  p" << leaf << " -> e" << i << ";\n";
    }
  }
  out << "}\n";
  return out.str();
}

}  // namespace weft
