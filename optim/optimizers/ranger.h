// Ranger: RAdam in Lookahead.
#pragma once

#include <algorithm>
#include <array>

#include "weft/optim/centralize.h"
#include "weft/optim/optimizers/lookahead.h"
#include "weft/optim/optimizers/radam.h"

namespace weft::optim {

struct RangerOptions {
  double lr = 1e-3;
  std::array<double, 2> betas = {0.95, 0.999};
  double eps = 1e-5;
  double weight_decay = 0;    ///< decoupled: p <- p (1 - lr weight_decay) before the step
  int64_t k = 6;              ///< updates between two synchronisations of Lookahead
  double alpha = 0.5;         ///< of Lookahead
  double threshold = 5;       ///< of RAdam
  bool use_gc = false;        ///< gradient centralisation, see centralize_gradients_(); Ranger 2020: true
  bool gc_conv_only = false;  ///< of convolutions only, not of linear layers

  /// What of it is RAdam's and what Lookahead's.
  operator RAdamOptions() const {
    return {.lr = lr,
            .betas = betas,
            .eps = eps,
            .weight_decay = weight_decay,
            .decoupled_weight_decay = true,
            .threshold = threshold};
  }
  operator LookaheadOptions() const { return {.k = k, .alpha = alpha}; }
};

/// ranger: Ranger 9.3.19 (Less Wright, https://github.com/lessw2020/Ranger-Mish-ImageWoof-5, ranger.py).
///
///   RAdam with decoupled weight decay, rectified where rho_t > 5, inside Lookahead with k 6 and alpha 0.5,
///   the slow weights starting as the initial ones
///
/// The optimizer of the ImageWoof records of 2019, there with lr 4e-3, betas 0.95 and 0.99, eps 1e-6 and
/// weight decay 1e-2.
class Ranger : public InLookahead<RAdam, RangerOptions> {
 public:
  explicit Ranger(const std::vector<Parameter>& parameters, const Options& options = {})
      : InLookahead(parameters, options), centralized_above_{above(options)} {}
  void add_group(const std::vector<Parameter>& parameters, const Options& options = {}) {
    InLookahead::add_group(parameters, options);
    centralized_above_.push_back(above(options));
  }
  const char* name() const override { return "ranger"; }
  bool by_element() const override { return centralizes_none(); }
  bool by_formula() const override { return is_just<Ranger>() && inner().by_formula() && centralizes_none(); }
  void step() override {
    for (size_t g = 0; g < centralized_above_.size(); ++g)
      if (centralized_above_[g] > 0) centralize_gradients_(parameters(g), centralized_above_[g]);
    InLookahead::step();
  }

 private:
  bool centralizes_none() const {
    return std::all_of(centralized_above_.begin(), centralized_above_.end(), [](int a) { return a == 0; });
  }
  static int above(const Options& o) { return !o.use_gc ? 0 : o.gc_conv_only ? 3 : 1; }

  std::vector<int> centralized_above_;  // of each group; 0: not at all
};

inline std::unique_ptr<Optimizer> make_ranger(const auto& groups, const Hyper& hyper) {
  return two_groups<Ranger>(groups, hyper);
}

/// ranger-gc: Ranger 2020 (Less Wright, https://github.com/lessw2020/Ranger-Deep-Learning-Optimizer,
/// ranger.py).
///
///   g <- g - mean of g over all dimensions but the first, where there is more than one; then Ranger
///
/// Gradient centralisation: Yong et al. 2020, https://arxiv.org/abs/2004.01461. The gradients themselves are
/// changed, as in the original.
inline std::unique_ptr<Optimizer> make_ranger_gc(const auto& groups, const Hyper& hyper) {
  return two_groups<Ranger>(groups, hyper, {.use_gc = true});
}

}  // namespace weft::optim
