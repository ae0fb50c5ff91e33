// One walk back over a tape. Shared by Tape and checkpoint(); not part of the public API.
#pragma once

#include <deque>
#include <unordered_map>
#include <unordered_set>

#include "weft/engine/tape.h"

namespace weft {

struct BackwardWalk {
  Tape& tape;
  bool create_graph = false, retain_graph = false;
  /// Restricted: only to the gradients of `wanted`, which mark() completes by what lies between.
  bool restricted = false;
  std::unordered_set<const Variable*> wanted = {};
  /// Gradients of intermediate results that were asked for, filled as the walk passes them.
  std::unordered_map<const Variable*, Tensor> passed = {};

  /// Work that goes on beside (see BackwardContext::beside()): its number, and what it reads.
  std::deque<std::pair<int64_t, std::vector<Tensor>>> going_on = {};

  /// Where a walk fails, what goes on must not outlive the memory that it uses.
  ~BackwardWalk();
  bool wants(const Variable* v) const { return v && (!restricted || wanted.count(v) != 0); }
  /// Adds to `wanted` every result in the entries [begin, end) that depends on one of them.
  void mark(size_t begin, size_t end);
  /// variable.grad += grad
  void accumulate(Variable& variable, Tensor grad);
  void beside(std::vector<Tensor> from, const std::function<void()>& work);
  /// What is started from here on waits for all but the `left` latest of what goes on.
  void join(size_t left = 0);
  /// Walks the entries [begin, end) from the last to the first.
  void run(size_t begin, size_t end);
  /// Walks all entries, and leaves the tape clean where that fails.
  void run();

  /// For checkpoint(): walks back over what `tape` has recorded from entry `begin` on, from y with gradient
  /// dy.
  void from(Variable& y, Tensor dy, size_t begin);

 private:
  void pass(size_t i);
};

}  // namespace weft
