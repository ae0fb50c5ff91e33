// Derivatives of functions: Hessian-vector products and their kin, by walking a tape twice. As torch.func and
// torch.autograd.functional.
#pragma once

#include <functional>
#include <vector>

#include "weft/engine/tensor.h"

namespace weft {

struct HvpResult {
  Tensor value;                  ///< f()
  std::vector<Tensor> gradient;  ///< of f with respect to each parameter
  std::vector<Tensor> product;   ///< H v, in the shapes of the parameters
};

/// The product of the Hessian H of f with a vector v, without H: the gradient of (gradient of f) . v, which
/// costs about four times what the gradient does. `f` computes a scalar from `parameters`, which must be
/// leaves (those of a network, say), or have set_requires_grad(); `v` has a tensor for each, of its shape and
/// dtype. Changes nobody's grad(). Where f has side effects (running statistics of batch norm), they happen
/// once. A parameter on which f depends linearly, or not at all, gives zeros. Error where an op has no second
/// derivative.
HvpResult hvp(const std::function<Tensor()>& f, const std::vector<Tensor>& parameters,
              const std::vector<Tensor>& v);

/// v^T J for J = df/dx, by one walk: f: x -> y, v of y's shape.
Tensor vjp(const std::function<Tensor(const Tensor&)>& f, const Tensor& x, const Tensor& v);
/// J v, by two walks: v^T J is linear in v, and its derivative along v is J. v of x's shape.
Tensor jvp(const std::function<Tensor(const Tensor&)>& f, const Tensor& x, const Tensor& v);
/// J, with the dimensions of y, then those of x: one walk for each element of y.
Tensor jacobian(const std::function<Tensor(const Tensor&)>& f, const Tensor& x);
/// The Hessian of a scalar function, with the dimensions of x twice: one walk for each element of x.
Tensor hessian(const std::function<Tensor(const Tensor&)>& f, const Tensor& x);

}  // namespace weft
