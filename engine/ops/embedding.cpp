#include "weft/engine/ops/embedding.h"

#include <utility>

#include "weft/engine/ops/elementwise.h"
#include "weft/engine/ops/helpers.h"

namespace weft {

namespace {

/// The table's gradient. It is linear in dy: its own gradient is the table's rows again, 0 where nothing
/// went.
Tensor embedding_backward(const Tensor& index, const Shape& table, int64_t padding, const Tensor& dy) {
  const Tensor dweight = ops::empty(table, dy);
  dispatch("embedding", dy, [&](const auto& k) {
    using T = kernel_type<decltype(k)>;
    k.embedding_backward(index.numel(), table[0], table[1], dy.data<T>(), index.data<int64_t>(), padding,
                         dweight.data<T>());
  });
  record("embedding_backward", {dy}, {dweight},
         [=](BackwardContext& c) {
           Tensor rows = embedding(index, c.grad_output());
           if (padding < 0) return c.set(0, std::move(rows));
           const Tensor kept = Tensor::ones({table[0], 1});
           kept.data<float>()[padding] = 0;
           c.set(0, rows * embedding(index, kept.to(dy.dtype()).to(dy.device())));
         },
         {.double_backward = true});
  return dweight;
}

}  // namespace

// y_i = weight[index_i]: dweight[e] = sum of dy_i over the i with index_i = e.
Tensor embedding(const Tensor& index, const Tensor& weight, const EmbeddingOptions& options) {
  check(index.dtype() == DType::i64, "embedding: the indices are ", index.dtype(), " ", index.shape(),
        "; they must be i64");
  check(weight.ndim() == 2, "embedding: expected a weight [entries, width], got ", weight.shape());
  ops::check_same_device("embedding", weight, index);
  // Indices have no type that would say in which the model computes.
  for (const DType half : {DType::bf16, DType::f16})
    if (WeightCopies::find(weight, half).defined()) return embedding(index, cast(weight, half), options);
  const int64_t entries = weight.size(0), width = weight.size(1), count = index.numel();
  int64_t padding = -1;
  if (options.padding_idx) {
    padding = *options.padding_idx < 0 ? *options.padding_idx + entries : *options.padding_idx;
    check(padding >= 0 && padding < entries, "embedding: padding_idx ", *options.padding_idx,
          " is not one of the ", entries, " entries of the weight ", weight.shape());
  }
  for (int64_t i = 0; index.device() == Device::cpu && i < count; ++i)
    check(index.data<int64_t>()[i] >= 0 && index.data<int64_t>()[i] < entries, "embedding: index ",
          index.data<int64_t>()[i], " at position ", i, " of ", index.shape(), " is not one of the ", entries,
          " entries of the weight ", weight.shape());
  Shape shape = index.shape();
  shape.push_back(width);
  const Tensor y = ops::empty(shape, weight);
  dispatch("embedding", weight, [&](const auto& k) {
    using T = kernel_type<decltype(k)>;
    k.embedding_forward(count, entries, width, weight.data<T>(), index.data<int64_t>(), y.data<T>());
  });
  if (!recording({&weight})) {
    record("embedding", {weight}, {y}, {});
    return y;
  }
  // A copy of the indices: the caller's batch may change before backward.
  record("embedding", {weight}, {y},
         [=, index = index.detach().clone(), table = weight.shape()](BackwardContext& c) {
           c.set(0, embedding_backward(index, table, padding, c.grad_output()));
         },
         {.double_backward = true});
  return y;
}

}  // namespace weft
