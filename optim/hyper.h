// The numbers that make any optimizer by its name, and how they become its options.
#pragma once

#include <memory>
#include <vector>

#include "weft/optim/optimizer.h"

namespace weft::optim {

/// Parameters that get weight decay and those that do not.
struct DecayGroups {
  std::vector<Parameter> decay, no_decay;
};

/// The numbers that a command line sets for any optimizer; the defaults are those of the ImageWoof record.
struct Hyper {
  double lr = 4e-3;
  double mom = 0.95;     ///< momentum, or beta1
  double sqrmom = 0.99;  ///< beta2, or what else weighs squares; unused where there is none
  double eps = 1e-6;     ///< unused where there is none
  double wd = 1e-2;      ///< weight decay of the first group; the second has none
};

// The functions make_NAME of the optimizers take their DecayGroups as `const auto&`: so they are compiled for
// the registry alone, not wherever an optimizer's header is included.

/// An optimizer of type `Opt` with the two groups, an empty one left out. The options are `base` with what
/// they have of lr, betas or momentum, eps and weight_decay taken from `hyper`; at last change(options,
/// whether the group decays) may change them.
template <class Opt, class Change>
std::unique_ptr<Opt> two_groups(const DecayGroups& groups, const Hyper& hyper,
                                const typename Opt::Options& base, const Change& change) {
  const auto options = [&](bool decay) {
    typename Opt::Options o = base;
    o.lr = hyper.lr;
    o.weight_decay = decay ? hyper.wd : 0;
    if constexpr (requires { o.betas; }) o.betas[0] = hyper.mom, o.betas[1] = hyper.sqrmom;
    if constexpr (requires { o.momentum; }) o.momentum = hyper.mom;
    if constexpr (requires { o.eps; }) o.eps = hyper.eps;
    change(o, decay);
    return o;
  };
  const bool any_decay = !groups.decay.empty();
  auto optimizer = std::make_unique<Opt>(any_decay ? groups.decay : groups.no_decay, options(any_decay));
  if (any_decay && !groups.no_decay.empty()) optimizer->add_group(groups.no_decay, options(false));
  return optimizer;
}
template <class Opt>
std::unique_ptr<Opt> two_groups(const DecayGroups& groups, const Hyper& hyper,
                                const typename Opt::Options& base = {}) {
  return two_groups<Opt>(groups, hyper, base, [](auto&, bool) {});
}

}  // namespace weft::optim
