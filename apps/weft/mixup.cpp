#include "weft/apps/weft/mixup.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "weft/engine/random.h"
#include "weft/kernels/philox.h"

namespace weft::app {
namespace {

/// Doubles in (0, 1) and normals from one Philox stream.
class Draws {
 public:
  Draws(uint64_t key, uint64_t stream) : key_(key), stream_(stream) {}
  double uniform() {
    const auto w = kernels::philox(key_, count_++, stream_);
    return kernels::uniform_double(w[0], w[1]) + 0x1p-54;
  }
  double normal() {
    const double radius = std::sqrt(-2 * std::log(uniform()));
    return radius * std::cos(2 * std::numbers::pi * uniform());
  }

 private:
  uint64_t key_, stream_, count_ = 0;
};

/// log of a Gamma(shape, 1) draw: Marsaglia and Tsang, "A simple method for generating gamma variables"
/// (2000); shapes below 1 through Gamma(shape + 1) u^(1/shape), as a logarithm because that power underflows
/// for small shapes.
double log_gamma_draw(double shape, Draws& draws) {
  double boost = 0;
  if (shape < 1) boost = std::log(draws.uniform()) / shape, shape += 1;
  const double d = shape - 1.0 / 3, c = 1 / std::sqrt(9 * d);
  for (;;) {
    const double x = draws.normal(), v = std::pow(1 + c * x, 3);
    if (v <= 0) continue;
    if (std::log(draws.uniform()) < x * x / 2 + d - d * v + d * std::log(v)) return std::log(d * v) + boost;
  }
}

}  // namespace

std::vector<float> mixup_weights(double alpha, int64_t count, uint64_t key) {
  std::vector<float> weights(static_cast<size_t>(count));
  for (size_t i = 0; i < weights.size(); ++i) {
    Draws draws(key, i + 1);
    const double a = log_gamma_draw(alpha, draws), b = log_gamma_draw(alpha, draws);
    const double w = 1 / (1 + std::exp(b - a));
    weights[i] = float(std::max(w, 1 - w));
  }
  return weights;
}

void draw_mixup(double alpha, uint64_t key, std::span<data::Mix> mix) {
  const std::vector<int64_t> partner = random_permutation(int64_t(mix.size()), key);
  const std::vector<float> weights = mixup_weights(alpha, int64_t(mix.size()), key);
  for (size_t i = 0; i < mix.size(); ++i) mix[i] = {.weight = weights[i], .partner = partner[i]};
}

}  // namespace weft::app
