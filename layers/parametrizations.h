// Layers whose weight is computed from what is trained, before each use: as torch.nn.utils.parametrizations.
//
//   SpectralNorm<Conv2d> conv{*this, "conv", 64, 64, {.kernel = 3, .padding = 1}};
//   WeightNorm<Linear> head{*this, "head", 64, 10};
//
// They go around any layer with a parameter `weight`, an Options type and the constructor (parent, name, in,
// out, options, generator). Call them as what they are: through a reference to the plain layer only the
// virtual forward(x) and operator()(x) use the computed weight. Threads that call one take turns.
#pragma once

#include <mutex>
#include <utility>

#include "weft/engine/ops/spectral_norm.h"
#include "weft/layers/conv2d.h"
#include "weft/layers/conv_transpose.h"
#include "weft/layers/linear.h"

namespace weft {

namespace detail {

/// Puts another tensor in a layer's place for its weight while it lives.
class WeightInPlace {
 public:
  WeightInPlace(Tensor& place, Tensor weight)
      : place_(place), own_(std::exchange(place, std::move(weight))) {}
  ~WeightInPlace() { place_ = own_; }
  WeightInPlace(const WeightInPlace&) = delete;
  WeightInPlace& operator=(const WeightInPlace&) = delete;

 private:
  Tensor& place_;
  Tensor own_;
};

/// Whether a layer's outputs are the last dimension of its weight, not the first.
template <class Layer>
constexpr bool kOutputsLast = false;
template <>
inline constexpr bool kOutputsLast<ConvTranspose2d> = true;
template <>
inline constexpr bool kOutputsLast<ConvTranspose1d> = true;

/// The vectors u and v of a weight, normal numbers brought to length 1.
std::pair<Tensor, Tensor> spectral_start(const Shape& weight, bool outputs_last, Generator& generator);
/// |weight| over all but the first dimension: [out, 1, ...].
Tensor row_norms(const Tensor& weight);
/// weight g / row_norms(weight).
Tensor weight_normalized(const Tensor& weight, const Tensor& g);

}  // namespace detail

/// A layer whose weight is divided by (an estimate of) its largest singular value (Miyato et al., 2018, arXiv
/// 1802.05957), the weight seen as a matrix W with a row for each output.
///
/// As torch.nn.utils.spectral_norm: each forward in training does steps of the power iteration
///   v = W^T u / |W^T u|,  u = W v / |W v|
/// on the buffers u and v, then divides W by sigma = u^T W v, in which u and v count as constants for the
/// gradient. In evaluation u and v stay as they are. State: weight (what is trained), u, v; PyTorch's are
/// weight_orig, weight_u, weight_v, or parametrizations.weight.original, ...0._u, ...0._v. The columns of W
/// are in the order of weft's layout, and v with them. (PyTorch's newer form takes u first, then v, so that
/// its v is half a step ahead; and it does 15 steps when it is made.)
template <class Layer>
class SpectralNorm : public Layer {
 public:
  SpectralNorm(Module& parent, std::string_view name, int64_t in, int64_t out,
               const typename Layer::Options& options = {}, Generator& generator = default_generator(),
               const SpectralNormOptions& norm = {})
      : Layer(parent, name, in, out, options, generator), norm_(norm) {
    check(norm.n_power_iterations > 0, "SpectralNorm ", name, ": ", norm.n_power_iterations,
          " power iterations; there must be at least one");
    auto [left, right] = detail::spectral_start(this->weight.shape(), detail::kOutputsLast<Layer>, generator);
    u = this->register_buffer("u", left);
    v = this->register_buffer("v", right);
  }

  Tensor forward(const Tensor& x) override {
    const std::lock_guard lock(in_use_);
    const detail::WeightInPlace used(this->weight, computed_weight());
    return Layer::forward(x);
  }
  using Module::operator();
  /// weight / sigma, after a step of the power iteration where the module is in training.
  Tensor normalized_weight() {
    const std::lock_guard lock(in_use_);
    return computed_weight();
  }
  std::string description() const override { return "spectral " + Layer::description(); }

  Tensor u, v;

 private:
  Tensor computed_weight() {
    SpectralNormOptions now = norm_;
    now.outputs_last = detail::kOutputsLast<Layer>;
    if (!this->training()) now.n_power_iterations = 0;
    return spectral_norm(this->weight, u, v, now);
  }

  SpectralNormOptions norm_;
  std::mutex in_use_;
};

/// A layer whose weight is g v / |v|, the norm over all but the first dimension (Salimans and Kingma, 2016,
/// arXiv 1602.07868), as torch.nn.utils.weight_norm with dim 0. Parameters: weight, which is v, and g of
/// shape [out, 1, ...], which starts at |v|; PyTorch's are weight_v, weight_g, or
/// parametrizations.weight.original1 and 0. (Of a transposed convolution the first dimension are the inputs,
/// there as here.)
template <class Layer>
class WeightNorm : public Layer {
 public:
  WeightNorm(Module& parent, std::string_view name, int64_t in, int64_t out,
             const typename Layer::Options& options = {}, Generator& generator = default_generator())
      : Layer(parent, name, in, out, options, generator) {
    g = this->register_parameter("g", detail::row_norms(this->weight.detach()));
  }

  Tensor forward(const Tensor& x) override {
    const std::lock_guard lock(in_use_);
    const detail::WeightInPlace used(this->weight, detail::weight_normalized(this->weight, g));
    return Layer::forward(x);
  }
  using Module::operator();
  /// g v / |v|.
  Tensor normalized_weight() const {
    const std::lock_guard lock(in_use_);
    return detail::weight_normalized(this->weight, g);
  }
  std::string description() const override { return "weight-normed " + Layer::description(); }

  Tensor g;

 private:
  mutable std::mutex in_use_;
};

}  // namespace weft
