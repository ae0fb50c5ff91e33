#pragma once

#include "weft/layers/cached_constant.h"
#include "weft/layers/parametrizations.h"

namespace weft {

/// A linear map without bias under spectral normalisation, as SpectralNorm in parametrizations.h does it: x
/// [..., in] -> [..., out]. The weight [out, in] starts with kaiming_normal_. State: weight, u [out], v [in].
/// It is no Linear, so that what starts all Linear layers of a model leaves it alone.
class SpectralLinear : public Module {
 public:
  SpectralLinear(Module& parent, std::string_view name, int64_t in_features, int64_t out_features,
                 Generator& generator = default_generator());

  Tensor forward(const Tensor& x) override;
  /// W / sigma, after a step of the power iteration where the module is in training.
  Tensor normalized_weight() {
    return spectral_norm(weight, u, v, {.n_power_iterations = training() ? 1 : 0});
  }
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
  CachedConstant identity_;
};

/// Self-attention of images as in SAGAN (Zhang et al., 2018, arXiv 1805.08318, section 3), and fast.ai's
/// layer of this name: with f, g, h three SpectralLinear of each pixel,
///   y_j = x_j + gamma sum_i softmax_i(f(x_i) . g(x_j)) h(x_i)
/// x, y: [N, H, W, C] (or [N, L, C]), C at least 8. Parameters gamma [1], which starts at 0, query.weight (f)
/// and key.weight (g) [C / 8, C], value.weight (h) [C, C], and the buffers u and v of each. Costs grow with
/// the square of the number of pixels.
class SelfAttention : public Module {
 public:
  SelfAttention(Module& parent, std::string_view name, int64_t channels,
                Generator& generator = default_generator());

  Tensor forward(const Tensor& x) override;
  std::string description() const override;

  Tensor gamma;
  SpectralLinear query, key, value;
};

}  // namespace weft
