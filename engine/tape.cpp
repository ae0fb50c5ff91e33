#include "weft/engine/tape.h"

#include <algorithm>
#include <atomic>
#include <iomanip>
#include <sstream>
#include <utility>

#include "weft/engine/anomaly.h"
#include "weft/engine/profile.h"
#include "weft/engine/trace.h"
#include "weft/kernels/cuda.h"

namespace weft {
namespace {

thread_local std::string scope_path;
std::atomic<uint64_t> next_tape_id{1};

std::string shapes(const std::vector<TapeEntry::Slot>& slots) {
  std::string s;
  for (const auto& slot : slots) s += (s.empty() ? "" : " ") + slot.shape.to_string();
  return s;
}

}  // namespace

Tape::Tape(Kind kind) : id_(next_tape_id++), kind_(kind), nested_(current() != nullptr), in_force_(this) {}
Tape::~Tape() { InForce<Tape>::forget(this); }

Tape* Tape::current() { return InForce<Tape>::current(); }

Tensor Tape::input(const Tensor& x) const {
  Tensor t = x.detach();
  t.set_variable(std::make_shared<Variable>(Variable{.leaf = false, .tape = id_, .entry = -1, .grad = {}}));
  return t;
}

RecordOn::RecordOn(Tape* tape) : in_force_(tape) {}
RecordOn::~RecordOn() = default;

NoGrad::NoGrad() : RecordOn(nullptr), untraced_(nullptr) {}
NoGrad::~NoGrad() = default;

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
std::string in_scope() { return scope_path.empty() ? "" : " (in " + scope_path + ")"; }

bool recording(std::initializer_list<const Tensor*> inputs) {
  if (!Tape::current()) return false;
  for (const Tensor* t : inputs)
    if (t->defined() && t->requires_grad()) return true;
  return false;
}

class Recorder {
 public:
  static void record(Tape& tape, std::string_view op, std::vector<TapeEntry::Slot> inputs,
                     const std::vector<Tensor>& outputs, BackwardFunction backward, RecordOptions options) {
    const bool asked = std::any_of(inputs.begin(), inputs.end(), [](const auto& in) { return in.variable; });
    if (tape.spent_) {
      check(!asked, op,
            ": this tape has been walked back; start a new Tape for the next step, or compute under NoGrad, "
            "or on what is detach()ed");
      return;
    }
    TapeEntry entry;
    entry.op = op;
    entry.detail = std::move(options.detail);
    entry.scope = scope_path;
    entry.multiply_adds = options.multiply_adds;
    entry.double_backward = options.double_backward;
    entry.looks_back = options.looks_back;
    for (const Tensor& t : options.also) entry.also.emplace_back(t);
    for (size_t i = 0; i < inputs.size(); ++i) {
      const Variable* variable = inputs[i].variable.get();
      if (!variable) continue;
      check(variable->leaf || variable->tape == tape.id_, op, ": input ", i, " ", inputs[i].shape,
            " was computed under another tape; detach() it, or compute it under this one",
            tape.nested_ ? ", or make it an input of the checkpoint()" : "");
    }
    entry.inputs = std::move(inputs);
    for (const Tensor& t : outputs) {
      if (asked && backward) {
        check(is_floating(t.dtype()), op, ": an output is ", t.dtype(), " ", t.shape(),
              ", through which no gradient can come; record it without a backward");
        check(!t.variable() || !t.variable()->leaf, op, ": an output ", t.shape(),
              " is a parameter itself; give a new tensor, or a view() of it");
        auto variable = std::make_shared<Variable>();
        variable->leaf = false;
        variable->tape = tape.id_;
        variable->entry = int64_t(tape.entries_.size());
        t.set_variable(std::move(variable));
      }
      entry.outputs.emplace_back(t);
    }
    if (asked && tape.kind_ == Tape::Kind::full) entry.backward = std::move(backward);
    tape.entries_.push_back(std::move(entry));
    if (Profiler* profiler = Profiler::current())
      profiler->passed(tape.entries_.back(), ProfileEvent::Pass::forward);
  }
};

void record(std::string_view op, const std::vector<Tensor>& inputs, const std::vector<Tensor>& outputs,
            BackwardFunction backward, RecordOptions options) {
  Tape* const recorder = Tape::current();
  if (DetectAnomaly* anomaly = DetectAnomaly::current();
      anomaly && (recorder || !DetectAnomaly::walking_back()))
    anomaly->check_outputs(op, inputs, outputs);
  if (Trace* trace = Trace::current(); trace && !DetectAnomaly::walking_back())
    trace->keep(op, inputs, outputs, std::move(options.told));
  if (!recorder) return;
  std::vector<TapeEntry::Slot> slots(inputs.size());
  for (size_t i = 0; i < inputs.size(); ++i)
    if (inputs[i].defined()) slots[i] = TapeEntry::Slot(inputs[i]);
  Recorder::record(*recorder, op, std::move(slots), outputs, std::move(backward), std::move(options));
}

void record(std::string_view op, std::vector<TapeEntry::Slot> inputs, const std::vector<Tensor>& outputs,
            BackwardFunction backward, RecordOptions options) {
  if (Tape* recorder = Tape::current())
    Recorder::record(*recorder, op, std::move(inputs), outputs, std::move(backward), std::move(options));
}

RemovableHandle Tape::add_hook(TapeHook hook, int64_t entry) {
  check(entry < int64_t(entries_.size()), "add_hook: entry ", entry, " of a tape with ", entries_.size(),
        " entries");
  return hooks_.add({entry, std::move(hook)});
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
