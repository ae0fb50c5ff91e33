// checkpoint: keep a computation's inputs instead of its intermediate results, and compute it again in
// backward.
//
//   Tensor y = checkpoint([&](const Tensor& x) { return block(x); }, x);
//
// Whatever must happen once though the computation runs twice goes through once().
#pragma once

#include <any>
#include <functional>
#include <memory>
#include <type_traits>
#include <utility>
#include <vector>

#include "weft/engine/error.h"
#include "weft/engine/tensor.h"

namespace weft {

/// f(inputs), recorded as one entry that keeps only the inputs, as torch.utils.checkpoint does. When backward
/// reaches it, f runs again under a tape of its own, which is then walked back: the gradients of the inputs
/// and of every leaf that f uses are those of the plain computation, to the last bit. Random draws, running
/// statistics and power iterations happen in the first run only, and the second one sees their results (see
/// once()).
///
/// f must compute the same both times from its inputs and leaves, so what it captures by reference must still
/// be there in backward. A tensor that was computed under the outer tape must be an input. With no tape alive
/// it is f(inputs) and nothing else. Checkpoints nest.
Tensor checkpoint(const std::function<Tensor(const std::vector<Tensor>&)>& f,
                  const std::vector<Tensor>& inputs);
/// The same with one input.
Tensor checkpoint(const std::function<Tensor(const Tensor&)>& f, const Tensor& x);

namespace detail {
/// What once() gave in the first run of a checkpointed computation, in order; on this thread while it runs.
struct OnceLog {
  std::vector<std::any> values;
  size_t next = 0;     // in the second run: the value to be given next
  bool again = false;  // the second run
  OnceLog* outer = nullptr;

  static OnceLog* current();
};

template <class T, class Make>
T once(OnceLog* log, Make& make) {
  if (!log) return make();
  if (log->again) {
    const T* value = log->next < log->values.size() ? std::any_cast<T>(&log->values[log->next++]) : nullptr;
    check(value,
          "checkpoint: the function did something else when it ran again; it must compute the same from its "
          "inputs both times");
    return *value;
  }
  T value = once<T>(log->outer, make);
  log->values.emplace_back(value);
  return value;
}
}  // namespace detail

/// make(), for a computation with an effect that must not happen twice: drawing from a generator, following a
/// running mean. Where a checkpointed computation runs again, gives back what make() gave in the first run.
template <class Make>
auto once(Make&& make) {
  return detail::once<std::decay_t<decltype(make())>>(detail::OnceLog::current(), make);
}

}  // namespace weft
