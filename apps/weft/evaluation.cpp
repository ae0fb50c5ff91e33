#include "weft/apps/weft/evaluation.h"

#include "weft/engine/ops/loss.h"
#include "weft/engine/ops/reduce.h"

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

}  // namespace

int64_t count_correct(const Tensor& logits, const Tensor& labels) {
  const Tensor predicted = argmax(logits);
  int64_t correct = 0;
  for (int64_t i = 0; i < labels.numel(); ++i)
    correct += predicted.data<int64_t>()[i] == labels.data<int64_t>()[i];
  return correct;
}

std::optional<Evaluation> evaluate(Module& model, data::ImageLoader& loader,
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
    for (int64_t i = 0; i < n; ++i) {
      int64_t& label = batch->labels.data<int64_t>()[i];
      label = label_map[size_t(label)];
    }
    const Tensor logits = model(batch->images);
    loss_sum += cross_entropy(logits, batch->labels).item() * double(n);
    const Tensor predicted = argmax(logits);
    for (int64_t i = 0; i < n; ++i) {
      const int64_t label = batch->labels.data<int64_t>()[i], guess = predicted.data<int64_t>()[i];
      correct += label == guess;
      ++result.confusion[size_t(label * classes + guess)];
    }
    result.images += n;
    if (!each(loader.position())) return std::nullopt;
  }
  result.loss = loss_sum / double(result.images);
  result.accuracy = double(correct) / double(result.images);
  return result;
}

}  // namespace weft::app
