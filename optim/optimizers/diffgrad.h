// DiffGrad: Adam whose step is smaller where the gradient changes little.
#pragma once

#include <array>
#include <cmath>

#include "weft/kernels/updates/moments.h"
#include "weft/kernels/updates/vector_math.h"
#include "weft/optim/formula_optimizer.h"

namespace weft::optim {

/// The friction coefficient of DiffGrad, with d = previous gradient - gradient.
enum class Friction : uint8_t {
  absolute,   ///< sigmoid(|d|): the paper; version 0 of over9000's code
  with_sign,  ///< sigmoid(d): version 1
  wide,       ///< 9 sigmoid(|d| / 2) - 4: version 2
};

struct DiffGradOptions {
  double lr = 1e-3;
  std::array<double, 2> betas = {0.9, 0.999};
  double eps = 1e-8;
  double weight_decay = 0;  ///< lambda, added to the gradient
  Friction friction = Friction::absolute;
  /// The published code's: from the second update on the previous gradient is this one.
  bool aliased = false;
};

namespace updates {

template <class T>
struct diffgrad {
  static constexpr const char* kName = "diffgrad";
  static constexpr int kSlots = 3;
  T step, eps, l2;  // step: lr sqrt(1 - beta2^t) / (1 - beta1^t)
  kernels::updates::moments<T> averages;
  // The coefficient: span / (1 + 2^(with_sign d + without_sign |d|)) + offset. No branch, so that it is done
  // on vectors, and one division with that by the root.
  T with_sign, without_sign, span, offset;
  kernels::updates::exp2_range<T> range;

  WEFT_HD void operator()(T& p, T g, T& m, T& v, T& previous) const {
    const T d = g + l2 * p;
    averages.advance(d, m, v);
    const T change = previous - d;
    const T exponent = with_sign * change + without_sign * kernels::math::abs(change);
    const T below = 1 + kernels::updates::vector_exp2(exponent, range);
    previous = d;
    p -= step * m * (span + offset * below) / (below * (kernels::math::sqrt(v) + eps));
  }
};

}  // namespace updates

/// diffgrad: DiffGrad (Dubey et al. 2019, https://arxiv.org/abs/1909.11015).
///
///   g <- g + lambda p,  xi = sigmoid(|g_(t-1) - g_t|), g_0 = 0
///   m <- beta1 m + (1 - beta1) g,  v <- beta2 v + (1 - beta2) g^2
///   p <- p - lr sqrt(1 - beta2^t) / (1 - beta1^t) * xi m / (sqrt(v) + eps)
///
/// Slots: "exp_avg" (m), "exp_avg_sq" (v), "previous_grad".
class DiffGrad : public FormulaOptimizer<DiffGrad, DiffGradOptions> {
 public:
  using FormulaOptimizer::FormulaOptimizer;
  static constexpr const char* kName = "diffgrad";
  static std::vector<Slot> state_slots(const Options&) {
    return {{"exp_avg"}, {"exp_avg_sq"}, {"previous_grad"}};
  }

  template <class T>
  static updates::diffgrad<T> formula(const Options& o, int64_t t) {
    const bool wide = o.friction == Friction::wide;
    const double root = std::sqrt(1 - std::pow(o.betas[1], double(t)));
    constexpr double kLog2E = 1.4426950408889634;  // sigmoid(d) = 1 / (1 + 2^(-d log2(e)))
    const double slope = o.aliased && t > 1 ? 0    // the difference of a thing and itself is 0
                         : wide             ? -0.5 * kLog2E
                                            : -kLog2E;
    return {.step = T(o.lr * root / (1 - std::pow(o.betas[0], double(t)))),
            .eps = T(o.eps),
            .l2 = T(o.weight_decay),
            .averages = kernels::updates::moments_of<T>(o.betas),
            .with_sign = T(o.friction == Friction::with_sign ? slope : 0),
            .without_sign = T(o.friction == Friction::with_sign ? 0 : slope),
            .span = T(wide ? 9 : 1),
            .offset = T(wide ? -4 : 0),
            .range = {}};
  }
};

inline std::unique_ptr<Optimizer> make_diffgrad(const auto& groups, const Hyper& hyper) {
  return two_groups<DiffGrad>(groups, hyper);
}

/// diffgrad-v1: DiffGrad with the sign kept, version 1 of https://github.com/mgrankin/over9000, diffgrad.py
/// (from lessw2020's), as intended.
///
///   xi = sigmoid(g_(t-1) - g_t)
inline std::unique_ptr<Optimizer> make_diffgrad_v1(const auto& groups, const Hyper& hyper) {
  return two_groups<DiffGrad>(groups, hyper, {.friction = Friction::with_sign});
}

/// diffgrad-v2: DiffGrad with a wider range, version 2 of https://github.com/mgrankin/over9000,
/// diffgrad.py, as intended.
///
///   xi = 9 sigmoid(|g_(t-1) - g_t| / 2) - 4
inline std::unique_ptr<Optimizer> make_diffgrad_v2(const auto& groups, const Hyper& hyper) {
  return two_groups<DiffGrad>(groups, hyper, {.friction = Friction::wide});
}

/// diffgrad-published: DiffGrad as https://github.com/mgrankin/over9000, diffgrad.py (version 1), computed
/// it; the alias is in the authors' https://github.com/shivram1987/diffGrad too.
///
///   xi = sigmoid(-g_1) in the first update, then 1/2: Adam at half the rate
///
/// What the code keeps as the previous gradient is the buffer that the next gradient is written into, so from
/// the second update on their difference is 0. The row "DiffGrad" of over9000's table was made with it.
inline std::unique_ptr<Optimizer> make_diffgrad_published(const auto& groups, const Hyper& hyper) {
  return two_groups<DiffGrad>(groups, hyper, {.friction = Friction::with_sign, .aliased = true});
}

}  // namespace weft::optim
