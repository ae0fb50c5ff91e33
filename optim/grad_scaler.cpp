#include "weft/optim/grad_scaler.h"

#include <atomic>
#include <cmath>

#include "weft/engine/ops/elementwise.h"
#include "weft/optim/gradients.h"

namespace weft::optim {

namespace updates = kernels::updates;

GradScaler::GradScaler(Device device, const Options& options)
    : options_(options),
      device_(device),
      scale_(Tensor::full({}, options.init_scale, DType::f32, device)),
      found_(Tensor::zeros({}, DType::f32, device)),
      tracker_(Tensor::zeros({}, DType::i64, device)),
      skipped_(Tensor::zeros({}, DType::i64, device)),
      settled_(Tensor::zeros({}, DType::i64)) {
  check(std::isfinite(options.init_scale) && options.init_scale > 0, "grad_scaler: init_scale is ",
        options.init_scale, "; it must be above 0");
  check(options.growth_factor >= 1, "grad_scaler: growth_factor is ", options.growth_factor,
        "; it must be 1 or more");
  check(options.backoff_factor > 0 && options.backoff_factor < 1, "grad_scaler: backoff_factor is ",
        options.backoff_factor, "; it must be in (0, 1)");
  check(options.growth_interval >= 1, "grad_scaler: growth_interval is ", options.growth_interval,
        "; it must be 1 or more");
}

Tensor GradScaler::scale(const Tensor& loss) const {
  check(loss.numel() == 1 && loss.dtype() == DType::f32 && loss.device() == device_,
        "grad_scaler: the loss must be an f32 scalar on ", device_, "; it is ", loss.dtype(), " ",
        loss.shape(), " on ", loss.device());
  return mul(loss, scale_.view(loss.shape()));
}

GradScaler::Stage& GradScaler::stage(const Optimizer& optimizer) {
  for (auto& [known, stage] : stages_)
    if (known == &optimizer) return stage;
  return stages_.emplace_back(&optimizer, Stage::ready).second;
}

void GradScaler::unscale_(Optimizer& optimizer) {
  Stage& stage = this->stage(optimizer);
  check(stage == Stage::ready, "grad_scaler: the gradients of ", optimizer.name(),
        " are unscaled already; call update() after each step");
  const Gradients gradients("grad_scaler", optimizer.parameters());
  check(gradients.empty() || gradients.on_gpu() == (device_ == Device::cuda),
        "grad_scaler: the gradients are not on ", device_, ", the scaler's device");
  stage = Stage::unscaled;
  if (gradients.on_gpu()) {
    kernels::cuda::unscale_gradients(gradients.upload().launch, scale_.data<float>(), found_.data<float>());
    return;
  }
  const double inverse = 1 / scale_.item();
  std::atomic<bool> found = false;
  gradients.for_each([&](size_t, int64_t n, auto* g) {
    using T = std::remove_reference_t<decltype(*g)>;
    bool finite = true;
    for (int64_t i = 0; i < n; ++i) finite = updates::unscale(g[i], T(float(inverse))) && finite;
    if (!finite) found = true;
  });
  if (found) found_.fill(1);
}

void GradScaler::step(Optimizer& optimizer) {
  Stage& stage = this->stage(optimizer);
  // The gradients of now may be scaled anew, and nobody would divide them.
  check(stage != Stage::stepped, "grad_scaler: step() of ", optimizer.name(),
        " was called already since the last update(); call update() after each step");
  if (stage == Stage::ready) unscale_(optimizer);
  if (device_ == Device::cpu) {
    if (found_.item() == 0) optimizer.step();
  } else {
    optimizer.set_skip(found_);
    try {
      optimizer.step();
    } catch (...) {
      optimizer.set_skip({});
      throw;
    }
    optimizer.set_skip({});
  }
  stage = Stage::stepped;
}

void GradScaler::update() {
  stages_.clear();
  const updates::LossScaleRule rule{options_.growth_factor, options_.backoff_factor,
                                    options_.growth_interval};
  float *scale = scale_.data<float>(), *found = found_.data<float>();
  int64_t *tracker = tracker_.data<int64_t>(), *skipped = skipped_.data<int64_t>();
  if (device_ == Device::cuda)
    kernels::cuda::update_loss_scale(rule, scale, found, tracker, skipped);
  else
    rule.after_step(*scale, *found, *tracker, *skipped);
}

int64_t GradScaler::skipped() const { return *skipped_.to(Device::cpu).data<int64_t>(); }

void GradScaler::settle(Optimizer& optimizer) {
  const int64_t skipped = this->skipped();
  int64_t& settled = *settled_.data<int64_t>();
  if (device_ == Device::cuda) optimizer.uncount(skipped - settled);
  settled = skipped;
}

StateDict GradScaler::state_dict() const {
  return {{"scale", scale_}, {"growth_tracker", tracker_}, {"skipped", skipped_}, {"settled", settled_}};
}

void GradScaler::load_state_dict(const StateDict& dict) {
  const StateDict own = state_dict();
  check(dict.size() == own.size(), "grad_scaler: the loaded state has ", dict.size(), " tensors, not ",
        own.size());
  for (size_t i = 0; i < own.size(); ++i) {
    const Tensor given = find(dict, own[i].first), &mine = own[i].second;
    check(given.defined() && given.shape() == mine.shape() && given.dtype() == mine.dtype(),
          "grad_scaler: the loaded state has no '", own[i].first, "', or it is not an ", mine.dtype(),
          " scalar");
  }
  for (const auto& [name, tensor] : own) tensor.copy_from(find(dict, name));
}

}  // namespace weft::optim
