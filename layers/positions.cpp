#include "weft/layers/positions.h"

#include <cmath>

#include "weft/engine/ops/elementwise.h"
#include "weft/engine/ops/shape.h"

namespace weft {

Tensor sinusoidal_positions(int64_t length, int64_t width) {
  check(length >= 0 && width > 0, "sinusoidal_positions: ", length, " places of width ", width);
  const Tensor table = Tensor::empty({length, width}, DType::f64);
  double* to = table.data<double>();
  for (int64_t p = 0; p < length; ++p)
    for (int64_t k = 0; k < width; ++k) {
      const double angle = double(p) * std::pow(10000.0, -double(k / 2 * 2) / double(width));
      *to++ = k % 2 == 0 ? std::sin(angle) : std::cos(angle);
    }
  return table;
}

Tensor sinusoidal_positions_2d(int64_t height, int64_t width, int64_t channels) {
  check(height >= 0 && width >= 0 && channels >= 8 && channels % 4 == 0,
        "sinusoidal_positions_2d: ", channels, " channels; they must be at least 8 and a multiple of 4");
  const int64_t quarter = channels / 4;
  const Tensor table = Tensor::empty({height * width, channels}, DType::f64);
  double* to = table.data<double>();
  for (int64_t y = 0; y < height; ++y)
    for (int64_t x = 0; x < width; ++x)
      for (int64_t k = 0; k < channels; ++k) {
        const double slowness = std::pow(10000.0, double(k % quarter) / double(quarter - 1));
        const double angle = double(k < 2 * quarter ? x : y) / slowness;
        *to++ = k / quarter % 2 == 0 ? std::sin(angle) : std::cos(angle);
      }
  return table;
}

Tensor SinusoidalPositions::forward(const Tensor& x) {
  check(x.ndim() == 3, "SinusoidalPositions: x has shape ", x.shape(), " but [N, L, E] is expected");
  const Shape shape{x.size(1), x.size(2)};
  return x + table_.get(x, shape, [&] { return sinusoidal_positions(shape[0], shape[1]); });
}

LearnedPositions::LearnedPositions(Module& parent, std::string_view name, int64_t max_length,
                                   int64_t channels, Generator& generator)
    : Module(parent, name) {
  check(max_length > 0 && channels > 0, "LearnedPositions ", name, ": ", max_length, " places of ", channels,
        " channels; both must be positive");
  weight = register_parameter("weight", Tensor::normal({max_length, channels}, 0, 0.02, generator));
}

Tensor LearnedPositions::forward(const Tensor& x) {
  check(x.ndim() == 3 && x.size(1) <= weight.size(0) && x.size(2) == weight.size(1),
        "LearnedPositions: x has shape ", x.shape(), " but [N, L, ", weight.size(1), "] with L up to ",
        weight.size(0), " is expected");
  return x + cast(narrow(weight, 0, 0, x.size(1)), x.dtype());
}

std::string LearnedPositions::description() const {
  return concat("LearnedPositions(", weight.size(0), ", ", weight.size(1), ")");
}

}  // namespace weft
