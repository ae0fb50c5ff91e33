// The problem that optimizers are compared on, the same as in golden/make_optim_golden.py, and every
// optimizer there is.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "support/golden.h"
#include "weft/optim/optim.h"

namespace weft::testing {

/// Three parameters of 1, 2 and 4 dimensions with a gradient in closed form.
struct Problem {
  std::vector<Parameter> parameters;
  bool missing = false;     ///< the second parameter joins at step 4, the third pauses at every third step
  bool zero_first = false;  ///< the first parameter's gradient is 0 in steps 1 and 2

  explicit Problem(DType dtype = DType::f64);
  std::vector<Parameter> group0() const { return {parameters[0], parameters[1]}; }
  std::vector<Parameter> group1() const { return {parameters[2]}; }
  /// Sets the gradients before step t = 1, 2, ...
  void set_gradients(int64_t t) const;
  /// All elements, one parameter after the other, f64.
  Tensor flat() const;
};

/// Makes an optimizer with the two parameter lists as its groups, an empty one left out or not; the second
/// has 0.3 times the learning rate and no decay.
struct NamedOptimizer {
  std::string name;
  std::function<std::unique_ptr<optim::Optimizer>(const std::vector<Parameter>&,
                                                  const std::vector<Parameter>&)>
      make;
  bool by_element = true;  ///< an element's update depends on no other element
  bool lookahead = false;  ///< it is one
};

/// The optimizer of that name with these numbers.
NamedOptimizer registered(const std::string& name, const optim::Hyper& hyper);

/// What separates 100 steps on the problem from a stored trajectory, of the golden files, beyond the
/// tolerance; nothing where they agree.
std::string trajectory_difference(const Problem& problem, optim::Optimizer& optimizer, const Tensor& stored,
                                  const golden::Tolerance& tolerance,
                                  const optim::Schedule* schedule = nullptr);

/// Every name of the registry, and forms with code of their own that no name reaches.
const std::vector<NamedOptimizer>& all_optimizers();

}  // namespace weft::testing
