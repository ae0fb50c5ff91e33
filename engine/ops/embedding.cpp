#include "weft/engine/ops/embedding.h"

#include "weft/engine/ops/elementwise.h"
#include "weft/engine/ops/gather_helpers.h"
#include "weft/engine/ops/helpers.h"

namespace weft {

// y_i = weight[index_i]: dweight[e] = sum of dy_i over the i with index_i = e.
Tensor embedding(const Tensor& index, const Tensor& weight, const EmbeddingOptions& options) {
  check(weight.ndim() == 2, "embedding: expected a weight [entries, width], got ", weight.shape());
  ops::Places places = ops::checked_places("embedding", weight, 0, index);
  // Indices have no type that would say in which the model computes.
  for (const DType half : {DType::bf16, DType::f16})
    if (WeightCopies::find(weight, half).defined()) return embedding(index, cast(weight, half), options);
  if (options.padding_idx) {
    const int64_t entries = weight.size(0);
    places.skipped = *options.padding_idx < 0 ? *options.padding_idx + entries : *options.padding_idx;
    check(places.skipped >= 0 && places.skipped < entries, "embedding: padding_idx ", *options.padding_idx,
          " is not one of the ", entries, " entries of the weight ", weight.shape());
  }
  Shape shape = index.shape();
  shape.push_back(weight.size(1));
  return ops::gathered("embedding", weight, places, shape);
}

}  // namespace weft
