// Not part of the public API: what learned_activation() and batch norm, where it applies one, have in common.
#pragma once

#include <array>

#include "weft/engine/ops/helpers.h"
#include "weft/engine/ops/learned_activation.h"

namespace weft::ops {

/// Throws unless `parameters` are those of the learned activation `act` on x, whose last dimension is the
/// channels.
void check_learned_parameters(const Tensor& x, Activation act, const std::vector<Tensor>& parameters);

/// The parameters, detached, with a value for each channel.
std::vector<Tensor> spread_over_channels(const std::vector<Tensor>& parameters, int64_t channels);

/// Where the kernels read the spread parameters, or write their gradients.
template <class T>
auto pointers_to(const std::vector<Tensor>& each) {
  std::array<T*, kMostLearnedParameters> pointers{};
  for (size_t k = 0; k < each.size(); ++k) pointers[k] = each[k].data<T>();
  return pointers;
}

/// The slope of f in x and in each parameter, in recorded ops, which have gradients of their own: for a
/// backward that is recorded. x has the parameters' type.
struct LearnedSlopes {
  Tensor x;
  std::vector<Tensor> parameters;
};
LearnedSlopes learned_slopes(Activation act, const Tensor& x, const std::vector<Tensor>& parameters);

}  // namespace weft::ops
