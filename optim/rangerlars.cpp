#include "weft/optim/rangerlars.h"

namespace weft::optim {
namespace {

RalambOptions ralamb(const RangerLarsOptions& o) {
  return {.lr = o.lr,
          .betas = o.betas,
          .eps = o.eps,
          .weight_decay = o.weight_decay,
          .trust_ratio = o.trust_ratio};
}

}  // namespace

RangerLars::RangerLars(const std::vector<Parameter>& parameters, const Options& o)
    : Lookahead(std::make_unique<Ralamb>(parameters, ralamb(o)),
                {.k = o.k, .alpha = o.alpha, .lazy = o.lazy}) {}

void RangerLars::add_group(const std::vector<Parameter>& parameters, const Options& o) {
  static_cast<Ralamb&>(inner()).add_group(parameters, ralamb(o));
  adopt_groups({.k = o.k, .alpha = o.alpha, .lazy = o.lazy});
}

}  // namespace weft::optim
