// Lookahead: slow weights that follow the fast ones of any other optimizer.
#pragma once

#include <memory>
#include <vector>

#include "weft/kernels/updates/update.h"
#include "weft/optim/optimizers/adamw.h"

namespace weft::optim {

struct LookaheadOptions {
  int64_t k = 6;       ///< updates between two synchronisations; the paper's choice is 5
  double alpha = 0.5;  ///< how far the slow weights go
  /// The slow weights start as the weights at the first synchronisation, which therefore moves nothing, as in
  /// timm and over9000. Otherwise as the weights before the first update (the paper; Ranger 9.3.19).
  bool lazy = false;
};

namespace updates {

/// The synchronisation.
template <class T>
struct lookahead {
  static constexpr const char* kName = "lookahead";
  static constexpr int kSlots = 1;
  static constexpr bool kGradient = false;
  bool start;  // the slow weights start here
  T alpha;

  WEFT_HD void operator()(T& p, T, T& slow) const {
    slow = start ? p : slow + alpha * (p - slow);
    p = slow;
  }
};

}  // namespace updates

/// lookahead: Lookahead (Zhang et al. 2019, https://arxiv.org/abs/1907.08610, algorithm 1). After
/// every k-th update of a parameter p by the inner optimizer (by name AdamW):
///
///   s <- s + alpha (p - s),  p <- s
///
///   Lookahead opt(std::make_unique<Adam>(net.parameters(), AdamOptions{.lr = 3e-3}), {.k = 5});
///
/// Groups, learning rates and momentum are those of the inner optimizer; a group that is added to that one
/// has the k and alpha of the group before. Slot: "slow_buffer", beside the inner ones.
class Lookahead : public Optimizer {
 public:
  /// `inner` must not have stepped yet. The options hold for all of its groups.
  explicit Lookahead(std::unique_ptr<Optimizer> inner, const LookaheadOptions& options = {});

  const char* name() const override { return "lookahead"; }
  void step() override;

  Optimizer& inner() { return *inner_; }
  const Optimizer& inner() const { return *inner_; }

  double lr(size_t group) const override { return inner_->lr(group); }
  void set_lr(size_t group, double lr) override { inner_->set_lr(group, lr); }
  bool has_momentum(size_t group) const override { return inner_->has_momentum(group); }
  double momentum(size_t group) const override { return inner_->momentum(group); }
  void set_momentum(size_t group, double momentum) override { inner_->set_momentum(group, momentum); }
  bool by_element() const override { return inner_->by_element(); }
  bool by_formula() const override { return is_just<Lookahead>() && inner_->by_formula(); }
  int moved_again() const override { return inner_->moved_again(); }
  double product_flops() const override { return inner_->product_flops(); }
  double weight_decay(size_t group) const override { return inner_->weight_decay(group); }
  void set_weight_decay(size_t group, double value) override { inner_->set_weight_decay(group, value); }
  StateDict state_dict() const override;

 protected:
  static void check_options(const LookaheadOptions& options);
  /// Those of the last group.
  void set_last_options(const LookaheadOptions& options) { options_.back() = options; }

 private:
  /// Takes over the groups that `inner` has and this has not.
  void adopt_groups(const LookaheadOptions& options);
  // Where a step is left out the weights are synchronised all the same: they are as good as before.
  void set_skip(const Tensor& flag) override { inner_->set_skip(flag); }
  void uncount(int64_t steps, const std::vector<bool>& of) override { inner_->uncount(steps, of); }
  /// Starts the slow weights where the parameter's first update comes next.
  void start(size_t group, size_t entry);

  std::unique_ptr<Optimizer> inner_;
  std::vector<LookaheadOptions> options_;
};

/// Base of a Lookahead around an `Inner` whose options convert to the inner ones and to LookaheadOptions.
template <class Inner, class OptionsT>
class InLookahead : public Lookahead {
 public:
  using Options = OptionsT;

  explicit InLookahead(const std::vector<Parameter>& parameters, const Options& options = {})
      : Lookahead(std::make_unique<Inner>(parameters, options), options) {}
  /// Adds a group with options of its own.
  void add_group(const std::vector<Parameter>& parameters, const Options& options = {}) {
    check_options(options);
    static_cast<Inner&>(inner()).add_group(parameters, options);
    set_last_options(options);
  }
};

inline std::unique_ptr<Optimizer> make_lookahead(const auto& groups, const Hyper& hyper) {
  return std::make_unique<Lookahead>(make_adamw(groups, hyper));
}

}  // namespace weft::optim
