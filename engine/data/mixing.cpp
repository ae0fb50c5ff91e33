#include "weft/engine/data/mixing.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "weft/engine/random.h"
#include "weft/kernels/philox.h"

namespace weft::data {
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

/// w ~ Beta(alpha, alpha).
double beta_draw(double alpha, Draws& draws) {
  const double a = log_gamma_draw(alpha, draws), b = log_gamma_draw(alpha, draws);
  return 1 / (1 + std::exp(b - a));
}

}  // namespace

std::vector<float> mixup_weights(double alpha, int64_t count, uint64_t key) {
  std::vector<float> weights(static_cast<size_t>(count));
  for (size_t i = 0; i < weights.size(); ++i) {
    Draws draws(key, i + 1);
    const double w = beta_draw(alpha, draws);
    weights[i] = float(std::max(w, 1 - w));
  }
  return weights;
}

void draw_mixup(double alpha, uint64_t key, std::span<Mix> mix) {
  const std::vector<int64_t> partner = random_permutation(int64_t(mix.size()), key);
  const std::vector<float> weights = mixup_weights(alpha, int64_t(mix.size()), key);
  for (size_t i = 0; i < mix.size(); ++i) mix[i] = {.weight = weights[i], .partner = partner[i], .cut = {}};
}

void draw_cutmix(double alpha, int side, uint64_t key, std::span<Mix> mix) {
  constexpr uint64_t kStreams = uint64_t{1} << 32;  // apart from those of mixup_weights
  const std::vector<int64_t> partner = random_permutation(int64_t(mix.size()), key);
  for (size_t i = 0; i < mix.size(); ++i) {
    Draws draws(key, kStreams + i);
    const double share = 1 - beta_draw(alpha, draws);
    const int half = int(side * std::sqrt(share)) / 2, y = int(side * draws.uniform()),
              x = int(side * draws.uniform());
    const int top = std::max(y - half, 0), bottom = std::min(y + half, side), left = std::max(x - half, 0),
              right = std::min(x + half, side);
    const PixelBox cut{top, left, bottom - top, right - left};
    const double pixels = double(cut.height) * cut.width;
    mix[i] = {.weight = float(1 - pixels / (double(side) * side)), .partner = partner[i], .cut = cut};
  }
}

}  // namespace weft::data
