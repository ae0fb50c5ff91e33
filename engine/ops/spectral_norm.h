// Weights divided by their spectral norm.
#pragma once

#include "weft/engine/tensor.h"

namespace weft {

struct SpectralNormOptions {
  int n_power_iterations = 1;  ///< 0: u and v stay as they are
  double eps = 1e-12;          ///< least norm that is divided by
  bool outputs_last = false;   ///< W is the transpose of the weight seen as [all else, outputs]
};

/// weight / sigma, sigma = u^T W v, with the weight seen as W [outputs, all else] (Miyato et al., 2018, arXiv
/// 1802.05957). First come steps of the power iteration
///   v = W^T u / max(|W^T u|, eps),  u = W v / max(|W v|, eps)
/// on u [outputs] and v [all else], which are written to; for the gradient they count as constants.
Tensor spectral_norm(const Tensor& weight, const Tensor& u, const Tensor& v,
                     const SpectralNormOptions& options = {});

}  // namespace weft
