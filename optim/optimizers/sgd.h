// Stochastic gradient descent.
#pragma once

#include "weft/optim/formula_optimizer.h"

namespace weft::optim {

struct SGDOptions {
  double lr = 1e-3;
  double momentum = 0;      ///< mu; 0: no buffer is kept
  double dampening = 0;     ///< tau
  double weight_decay = 0;  ///< lambda
  bool nesterov = false;    ///< needs momentum > 0 and dampening 0
  bool decoupled_weight_decay = false;
};

namespace updates {

template <class T>
struct sgd {
  static constexpr const char* kName = "sgd";
  static constexpr int kSlots = 0;
  T lr, l2, shrink;

  WEFT_HD void operator()(T& p, T g) const { p = p * shrink - lr * (g + l2 * p); }
};

template <class T>
struct sgd_momentum {
  static constexpr const char* kName = "sgd_momentum";
  static constexpr int kSlots = 1;
  T lr, mu, fresh, ahead, l2, shrink;  // fresh: the weight of g in the buffer; ahead: Nesterov's mu
  bool nesterov;

  WEFT_HD void operator()(T& p, T g, T& u) const {
    const T d = g + l2 * p;
    u = mu * u + fresh * d;
    p = p * shrink - lr * (nesterov ? d + ahead * u : u);
  }
};

}  // namespace updates

/// sgd: SGD with momentum as torch.optim.SGD (which leaves the learning rate out of the buffer, unlike Polyak
/// 1964 and Sutskever et al. 2013).
///
///   g <- g + lambda p        (or p <- p (1 - lr lambda) where decoupled, Loshchilov & Hutter 2019, alg. 1)
///   u <- g at the first update, then mu u + (1 - tau) g
///   p <- p - lr u
///
/// Slot: "momentum_buffer" (u); none with momentum 0.
class SGD : public FormulaOptimizer<SGD, SGDOptions> {
 public:
  using FormulaOptimizer::FormulaOptimizer;
  static constexpr const char* kName = "sgd";
  static std::vector<Slot> state_slots(const Options& o) {
    if (o.momentum == 0) return {};
    return {{"momentum_buffer"}};
  }
  static void validate(const Options& o) {
    check(!o.nesterov || (o.momentum > 0 && o.dampening == 0),
          "sgd: nesterov needs momentum > 0 and dampening 0; they are ", o.momentum, " and ", o.dampening);
  }

  template <class Run>
  static void choose(size_t slots, const Run& run) {
    if (slots == 0)
      run([](const Options& o, int64_t, auto type) { return plain<decltype(type)>(o); });
    else
      run([](const Options& o, int64_t t, auto type) { return with_momentum<decltype(type)>(o, t); });
  }

 private:
  static double l2(const Options& o) { return o.decoupled_weight_decay ? 0 : o.weight_decay; }
  static double shrink(const Options& o) { return o.decoupled_weight_decay ? 1 - o.lr * o.weight_decay : 1; }

  template <class T>
  static updates::sgd<T> plain(const Options& o) {
    return {.lr = T(o.lr), .l2 = T(l2(o)), .shrink = T(shrink(o))};
  }
  template <class T>
  static updates::sgd_momentum<T> with_momentum(const Options& o, int64_t t) {
    // Momentum that has been set to 0: the buffer stays as it is, and nothing is damped.
    if (o.momentum == 0)
      return {.lr = T(o.lr),
              .mu = 1,
              .fresh = 0,
              .ahead = 0,
              .l2 = T(l2(o)),
              .shrink = T(shrink(o)),
              .nesterov = true};
    const bool first = t == 1;  // the first gradient replaces the zeroed buffer whole, whatever the dampening
    return {.lr = T(o.lr),
            .mu = T(first ? 0 : o.momentum),
            .fresh = T(first ? 1 : 1 - o.dampening),
            .ahead = T(o.momentum),
            .l2 = T(l2(o)),
            .shrink = T(shrink(o)),
            .nesterov = o.nesterov};
  }
};

inline std::unique_ptr<Optimizer> make_sgd(const auto& groups, const Hyper& hyper) {
  return two_groups<SGD>(groups, hyper);
}

/// sgd-nesterov: SGD with Nesterov's momentum as in torch.optim.SGD.
///
///   g <- g + lambda p,  u <- g at the first update, then mu u + g
///   p <- p - lr (g + mu u)
inline std::unique_ptr<Optimizer> make_sgd_nesterov(const auto& groups, const Hyper& hyper) {
  return two_groups<SGD>(groups, hyper, {}, [](SGDOptions& o, bool) { o.nesterov = o.momentum > 0; });
}

}  // namespace weft::optim
