#include "weft/optim/ranger.h"

namespace weft::optim {
namespace {

RAdamOptions radam(const RangerOptions& o) {
  return {.lr = o.lr,
          .betas = o.betas,
          .eps = o.eps,
          .weight_decay = o.weight_decay,
          .decoupled_weight_decay = true,
          .threshold = o.threshold};
}

}  // namespace

Ranger::Ranger(const std::vector<Parameter>& parameters, const Options& o)
    : Lookahead(std::make_unique<RAdam>(parameters, radam(o)), {.k = o.k, .alpha = o.alpha}) {}

void Ranger::add_group(const std::vector<Parameter>& parameters, const Options& o) {
  static_cast<RAdam&>(inner()).add_group(parameters, radam(o));
  adopt_groups({.k = o.k, .alpha = o.alpha});
}

}  // namespace weft::optim
