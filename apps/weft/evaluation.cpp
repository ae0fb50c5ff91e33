#include "weft/apps/weft/evaluation.h"

#include "weft/engine/ops/loss.h"
#include "weft/engine/ops/reduce.h"
#include "weft/optim/training/evaluation.h"

namespace weft::app {

ClassResults evaluate(Module& model, data::BatchLoader& loader, const std::vector<int64_t>& label_map,
                      int64_t classes, const std::function<void(int64_t)>& each) {
  ClassResults result;
  result.confusion.resize(size_t(classes * classes));
  double loss_sum = 0;
  const auto add = [&](const Tensor& logits, const DeviceBatch& batch) {
    const int64_t n = batch.y.numel();
    std::vector<int64_t> labels = batch.y.to_vector<int64_t>();
    for (int64_t& label : labels) label = label_map[size_t(label)];
    const Tensor target = Tensor::from(labels, {n}).to(logits.device());
    loss_sum += cross_entropy(logits, target).item() * double(n);
    const std::vector<int64_t> predicted = argmax(logits).to_vector<int64_t>();
    for (size_t i = 0; i < labels.size(); ++i) ++result.confusion[size_t(labels[i] * classes + predicted[i])];
    result.images += n;
    each(loader.position());
    return true;
  };
  training::for_each_prediction(model, loader, DType::f32, add);
  int64_t correct = 0;
  for (int64_t c = 0; c < classes; ++c) correct += result.confusion[size_t(c * classes + c)];
  result.loss = loss_sum / double(result.images);
  result.accuracy = double(correct) / double(result.images);
  return result;
}

}  // namespace weft::app
