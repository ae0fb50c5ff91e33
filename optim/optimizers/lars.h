// LARS: momentum SGD with a learning rate for each layer.
#pragma once

#include "weft/optim/formula_optimizer.h"

namespace weft::optim {

struct LARSOptions {
  double lr = 1e-3;
  double momentum = 0.9;            ///< mu
  double weight_decay = 0;          ///< lambda
  double trust_coefficient = 1e-3;  ///< tau; fastai's larc takes 0.02
  bool clip = false;                ///< LARC: the layer's rate lr * ratio is at most lr
  bool adapt = true;                ///< false: ratio 1, momentum SGD; usual for biases and norm layers
};

namespace updates {

template <class T>
struct lars {
  static constexpr const char* kName = "lars";
  static constexpr int kSlots = 1, kSums = 2;
  bool adapt, clip;
  double lr, trust, weight_decay;
  T mu, decay;
  T rate;  // lr where the layer does not adapt it; else set by finish()

  WEFT_HD bool needs_sums() const { return adapt; }
  WEFT_HD void terms(T p, T g, T, T* terms) const { terms[0] = p, terms[1] = g; }
  WEFT_HD void finish(const double* squares, double*) {
    const double p = kernels::math::sqrt(squares[0]), g = kernels::math::sqrt(squares[1]);
    double ratio = 1;
    if (p != 0 && g != 0) ratio = trust * p / (g + weight_decay * p);
    if (clip && ratio > 1) ratio = 1;
    rate = T(lr * ratio);
  }
  WEFT_HD void operator()(T& p, T g, T& u) const {
    u = mu * u + rate * (g + decay * p);
    p -= u;
  }
};

}  // namespace updates

/// lars: LARS (You et al. 2017, https://arxiv.org/abs/1708.03888, algorithm 1). For each parameter tensor:
///
///   ratio = tau |p| / (|g| + lambda |p|)    (1 where |p| or |g| is 0; at most 1 where clipped)
///   u <- mu u + lr ratio (g + lambda p)
///   p <- p - u
///
/// By name, parameters without decay have ratio 1. Slot: "momentum_buffer" (u), which unlike SGD's contains
/// the learning rate.
class LARS : public FormulaOptimizer<LARS, LARSOptions> {
 public:
  using FormulaOptimizer::FormulaOptimizer;
  static constexpr const char* kName = "lars";
  static std::vector<Slot> state_slots(const Options&) { return {{"momentum_buffer"}}; }
  static void validate(const Options& o) {
    check(o.trust_coefficient > 0, "lars: trust_coefficient is ", o.trust_coefficient,
          "; it must be above 0");
  }

  template <class T>
  static updates::lars<T> formula(const Options& o, int64_t) {
    return {.adapt = o.adapt,
            .clip = o.clip,
            .lr = o.lr,
            .trust = o.trust_coefficient,
            .weight_decay = o.weight_decay,
            .mu = T(o.momentum),
            .decay = T(o.weight_decay),
            .rate = T(o.lr)};
  }
};

inline std::unique_ptr<Optimizer> make_lars(const auto& groups, const Hyper& hyper) {
  return two_groups<LARS>(groups, hyper, {}, [](LARSOptions& o, bool decay) { o.adapt = decay; });
}

}  // namespace weft::optim
