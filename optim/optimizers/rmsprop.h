// RMSprop.
#pragma once

#include "weft/optim/formula_optimizer.h"

namespace weft::optim {

struct RMSpropOptions {
  double lr = 1e-2;
  double alpha = 0.99;  ///< the weight of the old average of squares
  double eps = 1e-8;
  double weight_decay = 0;  ///< lambda
  double momentum = 0;      ///< mu
  bool centered = false;    ///< divide by the standard deviation; keeps a buffer for momentum too
};

namespace updates {

template <class T>
struct rmsprop {
  static constexpr const char* kName = "rmsprop";
  static constexpr int kSlots = 1;
  T lr, alpha, fresh, eps, l2, mu;  // fresh: 1 - alpha

  WEFT_HD void operator()(T& p, T g, T& v) const {
    const T d = g + l2 * p;
    v = alpha * v + fresh * d * d;
    p -= lr * d / (kernels::math::sqrt(v) + eps);
  }
};

template <class T>
struct rmsprop_momentum : rmsprop<T> {
  static constexpr const char* kName = "rmsprop_momentum";
  static constexpr int kSlots = 2;

  WEFT_HD void operator()(T& p, T g, T& v, T& u) const {
    const T d = g + this->l2 * p;
    v = this->alpha * v + this->fresh * d * d;
    const T step = this->mu * u + d / (kernels::math::sqrt(v) + this->eps);
    u = this->mu == 0 ? u : step;
    p -= this->lr * step;
  }
};

template <class T>
struct rmsprop_centered : rmsprop<T> {
  static constexpr const char* kName = "rmsprop_centered";
  static constexpr int kSlots = 3;
  T centre;  // 1; 0 where this has been switched off

  WEFT_HD void operator()(T& p, T g, T& v, T& u, T& a) const {
    const T d = g + this->l2 * p;
    v = this->alpha * v + this->fresh * d * d;
    a = this->alpha * a + this->fresh * d;
    const T variance = v - centre * a * a;
    const T step = this->mu * u + d / (kernels::math::sqrt(variance < 0 ? T(0) : variance) + this->eps);
    u = this->mu == 0 ? u : step;  // momentum that has been set to 0: the buffer stays as it is
    p -= this->lr * step;
  }
};

}  // namespace updates

/// rmsprop: RMSprop (Hinton, https://www.cs.toronto.edu/~tijmen/csc321/slides/lecture_slides_lec6.pdf, slide
/// 29) as torch.optim.RMSprop, eps outside of the root.
///
///   g <- g + lambda p,  v <- alpha v + (1 - alpha) g^2
///   u <- mu u + g / (sqrt(v) + eps),  p <- p - lr u
///
/// By name alpha is sqrmom and mu is mom. Slots: "square_avg" (v); "momentum_buffer" (u) unless mu is 0.
class RMSprop : public FormulaOptimizer<RMSprop, RMSpropOptions> {
 public:
  using FormulaOptimizer::FormulaOptimizer;
  static constexpr const char* kName = "rmsprop";
  static std::vector<Slot> state_slots(const Options& o) {
    if (o.centered) return {{"square_avg"}, {"momentum_buffer"}, {"grad_avg"}};
    if (o.momentum != 0) return {{"square_avg"}, {"momentum_buffer"}};
    return {{"square_avg"}};
  }
  static void validate(const Options& o) {
    check(o.alpha >= 0 && o.alpha <= 1, "rmsprop: alpha is ", o.alpha, "; it must be in [0, 1]");
  }

  template <class Run>
  static void choose(size_t slots, const Run& run) {
    if (slots == 1)
      run([](const Options& o, int64_t, auto type) { return scalars(o, type); });
    else if (slots == 2)
      run([](const Options& o, int64_t, auto type) {
        return updates::rmsprop_momentum<decltype(type)>{scalars(o, type)};
      });
    else
      run([](const Options& o, int64_t, auto type) {
        return updates::rmsprop_centered<decltype(type)>{scalars(o, type), decltype(type)(o.centered)};
      });
  }

 private:
  template <class T>
  static updates::rmsprop<T> scalars(const Options& o, T) {
    return {.lr = T(o.lr),
            .alpha = T(o.alpha),
            .fresh = T(1 - o.alpha),
            .eps = T(o.eps),
            .l2 = T(o.weight_decay),
            .mu = T(o.momentum)};
  }
};

inline std::unique_ptr<Optimizer> make_rmsprop(const auto& groups, const Hyper& hyper) {
  return two_groups<RMSprop>(groups, hyper, {.alpha = hyper.sqrmom});
}

/// rmsprop-centered: RMSprop that divides by the standard deviation (Graves 2013,
/// https://arxiv.org/abs/1308.0850, equations 38-45), as torch.optim.RMSprop.
///
///   v <- alpha v + (1 - alpha) g^2,  a <- alpha a + (1 - alpha) g
///   u <- mu u + g / (sqrt(v - a^2) + eps),  p <- p - lr u
///
/// v - a^2 is held at 0 from below, where PyTorch's rounding can make it NaN.
inline std::unique_ptr<Optimizer> make_rmsprop_centered(const auto& groups, const Hyper& hyper) {
  return two_groups<RMSprop>(groups, hyper, {.alpha = hyper.sqrmom, .centered = true});
}

}  // namespace weft::optim
