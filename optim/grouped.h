// GroupedOptimizer: what all optimizers share that keep one options struct for each parameter group.
#pragma once

#include <cmath>
#include <vector>

#include "weft/optim/optimizer.h"

namespace weft::optim {

/// Base of an optimizer whose groups each have an `OptionsT`: an aggregate with `lr`, `weight_decay`, and,
/// where there is a momentum, `betas` or `momentum`.
template <class OptionsT>
class GroupedOptimizer : public Optimizer {
 public:
  using Options = OptionsT;

  /// Adds a group with options of its own. Throws Error on options out of range and on parameters that cannot
  /// be trained or are there already.
  void add_group(const std::vector<Parameter>& parameters, const Options& options = {}) {
    check_options(options);
    append_group(parameters, slots(options), options.lr);
    options_.push_back(options);
  }

  /// The options of a group; a change holds from the next step on.
  const Options& options(size_t group = 0) const { return (at(group), options_[group]); }
  void set_options(size_t group, const Options& options) {
    check_options(options);
    for (const Slot& slot : slots(options))
      check(has_slot(group, slot.name), name(), ": these options need other state (", slot.name,
            ") than group ", group, " was added with");
    options_[group] = options;
  }

  void step() override {
    check_gradients();
    for (size_t g = 0; g < groups_.size(); ++g) update(g);
  }

  double lr(size_t group) const override { return options(group).lr; }
  void set_lr(size_t group, double lr) override { change(group, &Options::lr, lr); }
  double weight_decay(size_t group) const override { return options(group).weight_decay; }
  void set_weight_decay(size_t group, double value) override { change(group, &Options::weight_decay, value); }
  bool has_momentum(size_t group) const override {
    if constexpr (kMomentum && !kAdamLike) {  // a group that was added with 0 may lack the buffer for one
      Options with = options(group);
      with.momentum = 0.5;
      for (const Slot& slot : slots(with))
        if (!has_slot(group, slot.name)) return false;
    }
    return kAdamLike || kMomentum;
  }
  double momentum(size_t group) const override {
    double value = 0;
    if constexpr (kAdamLike) value = options(group).betas[0];
    if constexpr (kMomentum) value = options(group).momentum;
    return value;
  }
  void set_momentum(size_t group, double momentum) override {
    check(has_momentum(group), name(),
          kMomentum ? concat(": group ", group, " was added with momentum 0 and has no buffer for one")
                    : std::string(": there is no momentum to set"));
    Options changed = options(group);
    if constexpr (kAdamLike) changed.betas[0] = momentum;
    if constexpr (kMomentum) changed.momentum = momentum;
    check_options(changed);
    options_[group] = changed;
  }

 protected:
  /// Throws Error on a value out of range. Called with every new set of options.
  virtual void check_options(const Options& options) const = 0;
  /// The state that these options need.
  virtual std::vector<Slot> slots(const Options& options) const = 0;
  /// The update of one group: MultiTensor::step (multi_tensor.h).
  virtual void update(size_t group) = 0;

  /// The checks that all options share.
  void check_common(const Options& o) const {
    check_lr(o.lr);
    check(std::isfinite(o.weight_decay) && o.weight_decay >= 0, name(), ": weight_decay is ", o.weight_decay,
          "; it must be a finite number, 0 or more");
    if constexpr (kAdamLike) {
      for (double beta : o.betas)
        check(beta >= 0 && beta < 1, name(), ": a beta is ", beta, "; betas must be in [0, 1)");
    }
    if constexpr (requires { o.eps; })
      check(std::isfinite(o.eps) && o.eps >= 0, name(), ": eps is ", o.eps,
            "; it must be a finite number, 0 or more");
    if constexpr (kMomentum) {
      check(std::isfinite(o.momentum) && o.momentum >= 0, name(), ": momentum is ", o.momentum,
            "; it must be a finite number, 0 or more");
    }
  }

 private:
  friend class MultiTensor;
  static constexpr bool kAdamLike = requires(Options o) { o.betas; };
  static constexpr bool kMomentum = requires(Options o) { o.momentum; };

  bool has_slot(size_t group, const std::string& name) const {
    for (const Slot& slot : at(group).slots)
      if (slot.name == name) return true;
    return false;
  }

  void change(size_t group, double Options::*member, double value) {
    Options changed = options(group);
    changed.*member = value;
    check_options(changed);
    options_[group] = changed;
  }

  std::vector<Options> options_;
};

}  // namespace weft::optim
