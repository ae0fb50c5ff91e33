// MADGRAD: dual averaging with a cube root.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>

#include "weft/kernels/updates/vector_math.h"
#include "weft/optim/formula_optimizer.h"

namespace weft::optim {

struct MADGRADOptions {
  double lr = 1e-2;
  double momentum = 0.9;    ///< 1 - c
  double eps = 1e-6;        ///< added to the cube root, and to lr
  double weight_decay = 0;  ///< lambda, added to the gradient
};

namespace updates {

template <class T>
struct madgrad {
  static constexpr const char* kName = "madgrad";
  static constexpr int kSlots = 3;
  T weight, eps, l2, momentum, fresh;  // weight: (lr + eps) sqrt(t); fresh: 1 - momentum

  WEFT_HD void operator()(T& p, T g, T& sum, T& squares, T& start) const {
    // As long as all gradients were 0 the parameter is where it started.
    start = squares == 0 ? p : start;
    const T d = g + l2 * p;
    squares += weight * d * d;
    sum += weight * d;
    const T z = start - sum / (kernels::updates::vector_cbrt(squares) + eps);
    p = momentum * p + fresh * z;
  }
};

}  // namespace updates

/// madgrad: MADGRAD (Defazio & Jelassi 2021, https://arxiv.org/abs/2101.11075, algorithm 1), as in the
/// authors' https://github.com/facebookresearch/madgrad.
///
///   g <- g + lambda p,  w = (lr + eps) sqrt(t)
///   s <- s + w g,  v <- v + w g^2
///   z = p_0 - s / (cbrt(v) + eps),  p <- momentum p + (1 - momentum) z
///
/// Rates are not comparable to those of SGD or Adam; decay is to be small or 0. With rate 0 it stands still.
/// Slots: "s", "grad_sum_sq" (v), "x0" (p_0).
class MADGRAD : public FormulaOptimizer<MADGRAD, MADGRADOptions> {
 public:
  using FormulaOptimizer::FormulaOptimizer;
  static constexpr const char* kName = "madgrad";
  static std::vector<Slot> state_slots(const Options&) { return {{"s"}, {"grad_sum_sq"}, {"x0"}}; }
  static void validate(const Options& o) {
    check(o.momentum < 1, "madgrad: momentum is ", o.momentum, "; it must be below 1");
  }

  template <class T>
  static updates::madgrad<T> formula(const Options& o, int64_t t) {
    return {.weight = T((o.lr == 0 ? 0 : o.lr + o.eps) * std::sqrt(double(t))),
            // Above 0, so that it is not 0 / 0 where no gradient was there yet; beside a root it is nothing.
            .eps = std::max(T(o.eps), std::numeric_limits<T>::min()),
            .l2 = T(o.weight_decay),
            .momentum = T(o.momentum),
            .fresh = T(1 - o.momentum)};
  }
};

inline std::unique_ptr<Optimizer> make_madgrad(const auto& groups, const Hyper& hyper) {
  return two_groups<MADGRAD>(groups, hyper);
}

}  // namespace weft::optim
