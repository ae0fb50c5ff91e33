#include "weft/apps/weft/losses.h"

#include "weft/apps/weft/config.h"
#include "weft/engine/ops/binary_loss.h"
#include "weft/engine/ops/class_loss.h"
#include "weft/engine/ops/elementwise.h"
#include "weft/engine/ops/loss.h"

namespace weft::app {

std::vector<std::string> loss_names() { return {"cross-entropy", "bce", "focal"}; }

std::function<Tensor(const Tensor&, const Tensor&)> training_loss(const TrainConfig& c) {
  const double eps = c.label_smoothing;
  if (c.loss == "bce")
    return [eps](const Tensor& logits, const Tensor& target) {
      const int64_t classes = logits.size(1);
      const Tensor t = target.dtype() == DType::i64 ? one_hot(target, classes) : target;
      return binary_cross_entropy_with_logits(logits, affine(t, 1 - eps, eps / double(classes)));
    };
  if (c.loss == "focal")
    return [eps, gamma = c.focal_gamma](const Tensor& logits, const Tensor& target) {
      return softmax_focal_loss(logits, target, {.gamma = gamma, .label_smoothing = eps});
    };
  return [eps](const Tensor& logits, const Tensor& target) {
    return cross_entropy(logits, target, {.label_smoothing = eps});
  };
}

}  // namespace weft::app
