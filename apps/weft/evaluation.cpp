#include "weft/apps/weft/evaluation.h"

#include "weft/engine/ops/elementwise.h"
#include "weft/engine/ops/loss.h"
#include "weft/engine/ops/reduce.h"
#include "weft/engine/ops/shape.h"
#include "weft/kernels/cuda.h"

namespace weft::app {
namespace {

/// Evaluation mode while it lives, then training mode if that was on before.
class EvalMode {
 public:
  explicit EvalMode(Module& model) : model_(model), training_(model.training()) { model.eval(); }
  ~EvalMode() { model_.train(training_); }
  EvalMode(const EvalMode&) = delete;
  EvalMode& operator=(const EvalMode&) = delete;

 private:
  Module& model_;
  bool training_;
};

/// An incomplete batch filled up with zeros: on a GPU each size of batch costs plans of its own.
Tensor filled_up(const Tensor& images, int64_t batch_size) {
  const int64_t n = images.size(0);
  if (images.device() == Device::cpu || n == batch_size) return images;
  Shape rest = images.shape();
  rest.set(0, batch_size - n);
  return concat({images, Tensor::zeros(rest, images.dtype(), images.device())}, 0);
}

Tensor first_rows(const Tensor& x, int64_t rows) {
  if (x.size(0) == rows) return x;
  const Tensor y = Tensor::empty({rows, x.size(1)}, x.dtype(), x.device());
  kernels::cuda::copy(y.raw(), x.raw(), y.bytes());
  return y;
}

}  // namespace

std::optional<Evaluation> evaluate(Module& model, data::BatchLoader& loader,
                                   const std::vector<int64_t>& label_map, int64_t classes,
                                   const std::function<bool(int64_t)>& each) {
  const EvalMode mode(model);
  Evaluation result;
  result.confusion.resize(size_t(classes * classes));
  double loss_sum = 0;
  int64_t correct = 0;
  loader.begin_epoch(0);
  while (auto batch = loader.next()) {
    const int64_t n = batch->labels.numel();
    std::vector<int64_t> labels = batch->labels.to_vector<int64_t>();
    for (int64_t& label : labels) label = label_map[size_t(label)];
    const Tensor all = model(filled_up(batch->images, loader.options().batch_size));
    const Tensor logits = cast(first_rows(all, n), DType::f32);
    const Tensor target = Tensor::from(labels, {n}).to(logits.device());
    loss_sum += cross_entropy(logits, target).item() * double(n);
    const std::vector<int64_t> predicted = argmax(logits).to_vector<int64_t>();
    for (size_t i = 0; i < labels.size(); ++i) {
      correct += labels[i] == predicted[i];
      ++result.confusion[size_t(labels[i] * classes + predicted[i])];
    }
    result.images += n;
    if (!each(loader.position())) return std::nullopt;
  }
  result.loss = loss_sum / double(result.images);
  result.accuracy = double(correct) / double(result.images);
  return result;
}

}  // namespace weft::app
