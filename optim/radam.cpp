#include "weft/optim/radam.h"

#include <cmath>

#include "weft/kernels/updates/radam.h"
#include "weft/optim/multi_tensor.h"

namespace weft::optim {

RAdamStep radam_step(int64_t t, const std::array<double, 2>& betas, double threshold) {
  const double beta2_t = std::pow(betas[1], double(t)), debias = 1 - std::pow(betas[0], double(t));
  const double rho_inf = 2 / (1 - betas[1]) - 1;
  const double rho = rho_inf - 2 * double(t) * beta2_t / (1 - beta2_t);
  if (!(rho > threshold)) return {false, 1 / debias};
  const double rectifier = (rho - 4) / (rho_inf - 4) * ((rho - 2) / (rho_inf - 2)) * (rho_inf / rho);
  return {true, std::sqrt((1 - beta2_t) * rectifier) / debias};
}

void RAdam::check_options(const Options& o) const {
  check_common(o);
  check(o.threshold >= 4, "radam: threshold is ", o.threshold,
        "; it must be 4 or more, below which the variance has no estimate");
}

void RAdam::update(size_t group) {
  MultiTensor::step<kernels::updates::radam>(*this, group, [](const Options& o, int64_t t, auto type) {
    using T = decltype(type);
    const bool decoupled = o.decoupled_weight_decay;
    const RAdamStep step = radam_step(t, o.betas, o.threshold);
    return kernels::updates::radam<T>{.adaptive = step.adaptive,
                                      .step = T(o.lr * step.size),
                                      .eps = T(o.eps),
                                      .l2 = T(decoupled ? 0 : o.weight_decay),
                                      .shrink = T(decoupled ? 1 - o.lr * o.weight_decay : 1),
                                      .beta1 = T(o.betas[0]),
                                      .fresh1 = T(1 - o.betas[0]),
                                      .beta2 = T(o.betas[1]),
                                      .fresh2 = T(1 - o.betas[1])};
  });
}

}  // namespace weft::optim
