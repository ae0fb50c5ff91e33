#pragma once

#include "weft/engine/module.h"

namespace weft {

/// A linear map without bias whose weight is divided by (an estimate of) its largest singular value, so that
/// it never stretches a vector (Miyato et al., 2018, arXiv 1802.05957): x [..., in] -> [..., out].
///
/// As in torch.nn.utils.spectral_norm: each forward in training does one step of the power iteration
///   v = W^T u / |W^T u|,  u = W v / |W v|
/// on the buffers u [out] and v [in], then divides W by sigma = u^T W v, in which u and v count as constants
/// for the gradient. In evaluation u and v stay as they are. The weight [out, in] starts with
/// kaiming_normal_.
class SpectralLinear : public Module {
 public:
  SpectralLinear(Module& parent, std::string_view name, int64_t in_features, int64_t out_features,
                 Generator& generator = default_generator());

  Tensor forward(const Tensor& x) override;
  /// W / sigma, after a step of the power iteration where the module is in training.
  Tensor normalized_weight();
  std::string description() const override;

  Tensor weight, u, v;
};

struct SelfAttentionOptions {
  /// Use (W + W^T) / 2 of the normalised weight. (In the original code spectral normalisation puts the weight
  /// back before it is used, so that its `sym` has no effect; here it does what it says.)
  bool symmetric = false;
};

/// Self-attention without a softmax, at a cost linear in the number of pixels:
///   y = gamma (x x^T) (W x) + x
/// with x seen as a matrix [C, H W], where W [C, C] is a 1x1 convolution under spectral normalisation and
/// gamma one number that starts at 0. x, y: [N, H, W, C] (or [N, L, C]). Parameters gamma [1] and conv.weight
/// [C, C], buffers conv.u and conv.v [C]. Source: SimpleSelfAttention of
/// github.com/sdoria/SimpleSelfAttention, as MXResNet uses it.
class SimpleSelfAttention : public Module {
 public:
  SimpleSelfAttention(Module& parent, std::string_view name, int64_t channels,
                      const SelfAttentionOptions& options = {}, Generator& generator = default_generator());

  Tensor forward(const Tensor& x) override;
  std::string description() const override;

  Tensor gamma;
  SpectralLinear conv;

 private:
  SelfAttentionOptions options_;
  Tensor identity_;  // of the last input's dtype and device
};

}  // namespace weft
