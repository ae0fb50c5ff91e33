#include "weft/layers/parametrizations.h"

#include "weft/engine/ops/elementwise.h"
#include "weft/engine/ops/reduce.h"

namespace weft::detail {
namespace {

/// Overwrites `unit` with x / max(|x|, eps).
void assign_normalized(const Tensor& unit, const Tensor& x, double eps) {
  const Tensor norm = sqrt(sum(square(x)));
  const Tensor least = Tensor::scalar(eps, x.dtype(), x.device());
  unit.copy_from((x / maximum(norm, least)).view(unit.shape()));
}

/// The weight as a matrix: [outputs, all else], or the transpose of that.
Shape matrix_of(const Shape& weight, bool outputs_last) {
  const int last = weight.ndim() - 1;
  return outputs_last ? Shape{weight.numel(0, last), weight[last]}
                      : Shape{weight[0], weight.numel(1, weight.ndim())};
}

}  // namespace

std::pair<Tensor, Tensor> spectral_start(const Shape& weight, bool outputs_last, Generator& generator) {
  const Shape matrix = matrix_of(weight, outputs_last);
  const Tensor u = Tensor::empty({matrix[outputs_last ? 1 : 0]}),
               v = Tensor::empty({matrix[outputs_last ? 0 : 1]});
  for (const Tensor& unit : {u, v})
    assign_normalized(unit, Tensor::normal(unit.shape(), 0, 1, generator), 1e-12);
  return {u, v};
}

Tensor row_norms(const Tensor& weight) {
  std::vector<int> dims;
  for (int d = 1; d < weight.ndim(); ++d) dims.push_back(d);
  return sqrt(sum(square(weight), dims, true));
}

Tensor weight_normalized(const Tensor& weight, const Tensor& g) { return weight * (g / row_norms(weight)); }

}  // namespace weft::detail
