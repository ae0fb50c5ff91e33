#include "weft/engine/checkpoint.h"

#include <string>

#include "weft/engine/tape.h"

namespace weft {
namespace {

thread_local detail::OnceLog* current_log = nullptr;

/// Makes `log` the one that once() works with.
class UseLog {
 public:
  explicit UseLog(detail::OnceLog& log) : before_(std::exchange(current_log, &log)) { log.outer = before_; }
  ~UseLog() { current_log = before_; }
  UseLog(const UseLog&) = delete;
  UseLog& operator=(const UseLog&) = delete;

 private:
  detail::OnceLog* before_;
};

using Function = std::function<Tensor(const std::vector<Tensor>&)>;

/// What the outer tape keeps of a checkpointed computation.
struct Kept {
  Function f;
  std::vector<Tensor> inputs;  // cut off from the tape
  std::vector<std::shared_ptr<Variable>> variables;
  std::string scope;
  Shape shape;
  detail::OnceLog log;
};

/// Runs f again and walks it back.
void run_again(Kept& kept, BackwardContext& c) {
  kept.log.again = true;
  const UseLog use(kept.log);
  const ScopeName scope(kept.scope);
  Tape tape;
  std::vector<Tensor> inputs;
  for (size_t i = 0; i < kept.inputs.size(); ++i) {
    inputs.push_back(c.needs(int(i)) ? tape.input(kept.inputs[i]) : kept.inputs[i]);
    // Goes on adding to what has arrived already, in the order of the plain computation.
    if (c.needs(int(i))) inputs.back().variable()->grad = std::exchange(kept.variables[i]->grad, {});
  }
  kept.inputs.clear();
  {
    Tensor y = kept.f(inputs);
    check(y.defined() && y.shape() == kept.shape && kept.log.next == kept.log.values.size(),
          "checkpoint: the function did something else when it ran again; it must compute the same from its "
          "inputs both times");
    tape.backward(std::move(y), c.take_grad_output());
  }
  for (size_t i = 0; i < inputs.size(); ++i)
    if (c.needs(int(i)) && inputs[i].variable()->grad.defined())
      c.set(int(i), std::exchange(inputs[i].variable()->grad, {}));
}

}  // namespace

detail::OnceLog* detail::OnceLog::current() { return current_log; }

Tensor checkpoint(const Function& f, const std::vector<Tensor>& inputs) {
  for (const Tensor& x : inputs) check(x.defined(), "checkpoint: an input is undefined");
  Tape* outer = Tape::current();
  Tensor y;
  if (!outer) {
    y = f(inputs);
    check(y.defined(), "checkpoint: the function returned an undefined tensor");
    return y;
  }
  const auto kept = std::make_shared<Kept>();
  kept->f = f;
  kept->scope = ScopeName::path();
  std::vector<TapeEntry::Slot> slots;
  RecordOptions options;
  {
    // Finds out what f reads, but keeps nothing for the way back.
    const UseLog use(kept->log);
    Tape first(Tape::Kind::sketch);
    std::vector<Tensor> own;
    for (const Tensor& x : inputs) {
      kept->inputs.push_back(x.detach());
      kept->variables.push_back(x.variable());
      slots.push_back({x.variable(), x.shape(), x.dtype(), x.device()});
      own.push_back(x.requires_grad() ? first.input(x) : kept->inputs.back());
    }
    y = f(own);
    check(y.defined(), "checkpoint: the function returned an undefined tensor");
    options.detail = concat(first.entries().size(), first.entries().size() == 1 ? " op" : " ops");
    for (const TapeEntry& e : first.entries()) {
      options.multiply_adds += e.multiply_adds;
      for (const TapeEntry::Slot& slot : e.inputs) {
        if (!slot.variable || !slot.variable->leaf) continue;
        bool known = false;
        for (const TapeEntry::Slot& s : slots) known |= s.variable == slot.variable;
        if (!known) slots.push_back(slot);
      }
    }
  }
  kept->shape = y.shape();
  const bool differentiable = y.requires_grad();
  y = y.detach();
  record("checkpoint", std::move(slots), {y},
         differentiable ? BackwardFunction([kept](BackwardContext& c) { run_again(*kept, c); })
                        : BackwardFunction(),
         std::move(options));
  return y;
}

Tensor checkpoint(const std::function<Tensor(const Tensor&)>& f, const Tensor& x) {
  return checkpoint([f](const std::vector<Tensor>& inputs) { return f(inputs[0]); }, std::vector<Tensor>{x});
}

}  // namespace weft
