#include "weft/engine/checkpoint.h"

#include <string>

#include "weft/engine/backward_walk.h"
#include "weft/engine/in_force.h"

namespace weft {
namespace {

/// Makes `log` the one that once() works with.
InForce<detail::OnceLog> use_log(detail::OnceLog& log) {
  log.outer = detail::OnceLog::current();
  return InForce<detail::OnceLog>(&log);
}

using Function = std::function<Tensor(const std::vector<Tensor>&)>;

/// What the outer tape keeps of a checkpointed computation.
struct Kept {
  Function f;
  std::vector<Tensor> inputs;
  std::string scope;
  Shape shape;
  detail::OnceLog log;
};

Tensor run_f(Kept& kept, const std::vector<Tensor>& inputs) {
  const Tensor y = kept.f(inputs);
  check(
      y.defined() && y.requires_grad() && y.shape() == kept.shape && kept.log.next == kept.log.values.size(),
      "checkpoint: the function did something else when it ran again; it must compute the same from its "
      "inputs both times");
  return y;
}

/// Runs f again and walks it back: under a tape of its own, or, where backward is recorded, under the same
/// one, where what it computes stays.
void run_again(Kept& kept, BackwardContext& c) {
  kept.log.again = true;
  kept.log.next = 0;
  const auto use = use_log(kept.log);
  BackwardWalk& outer = c.walk();
  if (c.create_graph()) {
    const size_t begin = outer.tape.entries().size();
    const Tensor y = run_f(kept, kept.inputs);
    outer.from(*y.variable(), c.take_grad_output(), begin);
    return;
  }
  outer.join();  // to gradients of weights that are under way the inner walk may add
  const ScopeName scope(kept.scope);
  Tape tape;
  BackwardWalk walk{.tape = tape, .restricted = outer.restricted, .wanted = outer.wanted};
  std::vector<Tensor> inputs;
  std::vector<std::shared_ptr<Variable>> owners;
  for (size_t i = 0; i < kept.inputs.size(); ++i) {
    const Tensor& x = kept.inputs[i];
    owners.push_back(x.variable());
    inputs.push_back(c.needs(int(i)) ? tape.input(x) : x.detach());
    if (!c.needs(int(i))) continue;
    // Goes on adding to what has arrived already, in the order of the plain computation.
    inputs.back().variable()->grad = std::exchange(x.variable()->grad, {});
    walk.wanted.insert(inputs.back().variable().get());
  }
  if (!c.retain_graph()) kept.inputs.clear();
  try {
    Tensor y = run_f(kept, inputs);
    const std::shared_ptr<Variable> variable = y.variable();
    y = {};  // its memory may be free now
    const NoGrad no_recording;
    walk.from(*variable, c.take_grad_output(), 0);
  } catch (...) {  // what had arrived before stays
    for (size_t i = 0; i < inputs.size(); ++i)
      if (c.needs(int(i)) && inputs[i].variable()->grad.defined())
        owners[i]->grad = std::move(inputs[i].variable()->grad);
    throw;
  }
  for (size_t i = 0; i < inputs.size(); ++i)
    if (c.needs(int(i)) && inputs[i].variable()->grad.defined())
      c.set(int(i), std::exchange(inputs[i].variable()->grad, {}));
}

}  // namespace

detail::OnceLog* detail::OnceLog::current() { return InForce<OnceLog>::current(); }

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
    const auto use = use_log(kept->log);
    Tape first(Tape::Kind::sketch);
    std::vector<Tensor> own;
    for (const Tensor& x : inputs) {
      kept->inputs.push_back(x);
      slots.emplace_back(x);
      own.push_back(x.requires_grad() ? first.input(x) : x);
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
  options.double_backward = true;
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
