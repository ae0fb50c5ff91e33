#include "weft/optim/training/evaluation.h"

#include <chrono>
#include <optional>

#include "weft/engine/eval_guard.h"
#include "weft/engine/ops/elementwise.h"
#include "weft/engine/ops/loss.h"
#include "weft/engine/ops/reduce.h"
#include "weft/engine/ops/shape.h"
#include "weft/engine/tape.h"
#include "weft/engine/weight_copies.h"
#include "weft/optim/training/rows.h"

namespace weft::training {
namespace {

/// An incomplete batch filled up with zeros: on a GPU each size of batch costs plans of its own.
Tensor filled_up(const Tensor& x, int64_t batch_size) {
  const int64_t n = x.size(0);
  if (x.device() == Device::cpu || n == batch_size || !is_floating(x.dtype())) return x;
  Shape rest = x.shape();
  rest.set(0, batch_size - n);
  return concat({x, Tensor::zeros(rest, x.dtype(), x.device())}, 0);
}

}  // namespace

Metric accuracy() {
  return {"accuracy", [](const Tensor& prediction, const Tensor& y) {
            check(are_labels(prediction, y), "accuracy: needs predictions [N, C] and i64 labels [N], got ",
                  prediction.shape(), " and ", y.dtype(), " ", y.shape());
            return double(count_correct(prediction, y));
          }};
}

bool for_each_prediction(Module& module, Batches& batches, DType dtype,
                         const std::function<bool(const Tensor&, const DeviceBatch&)>& each) {
  const EvalGuard mode(module);
  const NoGrad no_grad;
  std::optional<WeightCopies> copies;
  std::optional<WeightCopies::Use> use;
  if (is_half(dtype)) use.emplace(copies.emplace(module, dtype));
  batches.begin_epoch(0);
  while (const auto batch = batches.next()) {
    const Tensor x = filled_up(input_of(batch->x, dtype), batches.batch_size());
    Tensor prediction = module(x);
    if (x.size(0) != batch->x.size(0)) prediction = rows(prediction, 0, batch->x.size(0));
    if (is_half(prediction.dtype())) prediction = cast(prediction, DType::f32);
    if (!each(prediction, *batch)) return false;
  }
  return true;
}

std::optional<Evaluation> evaluate(Module& module, Batches& batches, const EvaluateOptions& options) {
  const auto start = std::chrono::steady_clock::now();
  Evaluation result;
  result.metrics.resize(options.metrics.size());
  const bool whole = for_each_prediction(
      module, batches, options.dtype, [&](const Tensor& prediction, const DeviceBatch& b) {
        const Tensor& target = b.targets.defined() ? b.targets : b.y;
        const Tensor loss =
            options.loss ? options.loss(prediction, target) : cross_entropy(prediction, target);
        const int64_t n = b.y.size(0);
        result.loss += loss.item() * double(n);
        for (size_t i = 0; i < options.metrics.size(); ++i)
          result.metrics[i] += options.metrics[i].sum(prediction, b.y);
        result.samples += n;
        return !options.each || options.each(batches.position());
      });
  if (!whole) return std::nullopt;
  check(result.samples > 0, "evaluate: there is no sample to evaluate on");
  result.loss /= double(result.samples);
  for (double& metric : result.metrics) metric /= double(result.samples);
  result.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return result;
}

}  // namespace weft::training
