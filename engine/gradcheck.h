// Checks gradients against central differences, in f64. For weft's own ops and for yours.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "weft/engine/tensor.h"

namespace weft {

struct GradcheckOptions {
  double step = 1e-6;  ///< of the central difference, scaled by max(1, |x|)
  double rtol = 1e-6, atol = 1e-7;
  uint64_t seed = 1;  ///< of the random gradient that is sent back from the output
};

struct GradcheckResult {
  bool ok = true;
  double max_error = 0;  ///< largest |analytic - numeric| / (atol / rtol + |numeric|)
  std::string message;   ///< where it differs: input, element, both values
  explicit operator bool() const { return ok; }
};

/// Compares d sum(f(inputs) * r) / d input with finite differences, r random, for every element of every
/// input that requires a gradient. All inputs must be f64. `f` must be a pure function of its inputs.
GradcheckResult gradcheck(const std::function<Tensor(const std::vector<Tensor>&)>& f,
                          const std::vector<Tensor>& inputs, const GradcheckOptions& options = {});

/// The same for the gradient itself, as torch.autograd.gradgradcheck: gradcheck of the function that maps
/// inputs and an upstream gradient r to the gradients of sum(f(inputs) * r). The analytic side walks a
/// recorded backward (create_graph), the numeric side differences the plain one; so where it is good, both
/// give the same gradient too.
GradcheckResult gradgradcheck(const std::function<Tensor(const std::vector<Tensor>&)>& f,
                              const std::vector<Tensor>& inputs, const GradcheckOptions& options = {});

}  // namespace weft
