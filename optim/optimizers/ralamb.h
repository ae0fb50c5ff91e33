// Ralamb: RAdam with a trust ratio for each layer, in two forms.
#pragma once

#include <array>

#include "weft/kernels/updates/moments.h"
#include "weft/optim/optimizers/radam.h"

namespace weft::optim {

/// What the weights' norm is divided by.
enum class TrustRatio : uint8_t {
  published,  ///< the norm of the weights after the step: over9000's code, by mistake
  intended,   ///< the norm of the step: LAMB's, https://arxiv.org/abs/1904.00962
};

struct RalambOptions {
  double lr = 1e-3;
  std::array<double, 2> betas = {0.9, 0.999};
  double eps = 1e-8;
  double weight_decay = 0;  ///< lambda, decoupled
  double threshold = 5;     ///< of RAdam
  TrustRatio trust_ratio = TrustRatio::published;
};

namespace updates {

template <class T>
struct ralamb {
  static constexpr const char* kName = "ralamb";
  static constexpr int kSlots = 2, kSums = 2;
  bool adaptive, published;
  double lr;
  T size, eps;      // of RAdam, without lr
  T shrink, decay;  // of the weights before the step (published), within it (intended)
  T of_p, of_d;     // the divisor: p - lr d as published, d + decay p as intended
  kernels::updates::moments<T> averages;
  T rate;  // lr times the trust ratio, set by finish()

  WEFT_HD void advance(T g, T& m, T& v) const { averages.advance(g, m, v); }
  WEFT_HD void terms(T p, T, T m, T v, T* terms) const {
    terms[0] = p * shrink;
    terms[1] = of_p * terms[0] + of_d * direction(m, v);
  }
  WEFT_HD void finish(const double* squares, double*) {
    rate = T(lr * trust(kernels::math::sqrt(squares[0]), kernels::math::sqrt(squares[1])));
  }
  WEFT_HD void operator()(T& p, T, T& m, T& v) const {
    const T w = p * shrink;
    p = w - rate * (direction(m, v) + decay * w);
  }

 private:
  WEFT_HD T direction(T m, T v) const { return size * m / (adaptive ? kernels::math::sqrt(v) + eps : T(1)); }
  /// The trust ratio from the norms; NaN goes through.
  WEFT_HD double trust(double weights, double divisor) const {
    if (published && weights > 10) weights = 10;
    if (weights == 0 || divisor == 0) return 1;
    const double ratio = weights / divisor;
    return !published && ratio > 10 ? 10 : ratio;
  }
};

}  // namespace updates

/// ralamb: Ralamb as published in https://github.com/mgrankin/over9000, ralamb.py, since August 2019: RAdam
/// with layer-wise rates. With dir and size of RAdam (radam_step), for each parameter tensor:
///
///   p <- p (1 - lr lambda),  p' = p - lr size dir
///   ratio = clamp(|p|, 0, 10) / |p'|        (1 where either norm is 0)
///   p <- p - lr ratio size dir
///
/// It divides by the norm of the new weights instead of the step's: the ratio is about 1 for |p| <= 10 and
/// about 10 / |p| above. It damps large tensors, and is no LARS; yet over9000's table was made with it.
/// Slots: "exp_avg", "exp_avg_sq".
class Ralamb : public FormulaOptimizer<Ralamb, RalambOptions> {
 public:
  using FormulaOptimizer::FormulaOptimizer;
  static constexpr const char* kName = "ralamb";
  static std::vector<Slot> state_slots(const Options&) { return {{"exp_avg"}, {"exp_avg_sq"}}; }
  static void validate(const Options& o) {
    check(o.threshold >= 4, "ralamb: threshold is ", o.threshold, "; it must be 4 or more");
  }

  template <class T>
  static updates::ralamb<T> formula(const Options& o, int64_t t) {
    const RAdamStep step = radam_step(t, o.betas, o.threshold);
    const bool published = o.trust_ratio == TrustRatio::published;
    return {.adaptive = step.adaptive,
            .published = published,
            .lr = o.lr,
            .size = T(step.size),
            .eps = T(o.eps),
            .shrink = T(published ? 1 - o.lr * o.weight_decay : 1),
            .decay = T(published ? 0 : o.weight_decay),
            .of_p = T(published ? 1 : o.weight_decay),
            .of_d = T(published ? -o.lr : 1),
            .averages = kernels::updates::moments_of<T>(o.betas),
            .rate = 0};
  }
};

inline std::unique_ptr<Optimizer> make_ralamb(const auto& groups, const Hyper& hyper) {
  return two_groups<Ralamb>(groups, hyper);
}

/// ralamb-fixed: Ralamb as intended, with LAMB's trust ratio (https://arxiv.org/abs/1904.00962) as in
/// https://github.com/lessw2020/mish, rangerlars.py.
///
///   u = size dir + lambda p,  ratio = clamp(|p| / |u|, 0, 10)        (1 where either norm is 0)
///   p <- p - lr ratio u
inline std::unique_ptr<Optimizer> make_ralamb_fixed(const auto& groups, const Hyper& hyper) {
  return two_groups<Ralamb>(groups, hyper, {.trust_ratio = TrustRatio::intended});
}

}  // namespace weft::optim
