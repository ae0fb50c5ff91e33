#include "weft/engine/finite.h"

#include <algorithm>
#include <cmath>

namespace weft {

bool all_finite(const Tensor& x) {
  const auto finite = [](const auto& values) {
    return std::all_of(values.begin(), values.end(), [](auto v) { return std::isfinite(v); });
  };
  if (x.dtype() == DType::f64) return finite(x.to_vector<double>());
  if (x.dtype() == DType::f32) return finite(x.to_vector<float>());
  return !is_half(x.dtype()) || finite(x.to(DType::f32).to_vector<float>());
}

}  // namespace weft
