#include "weft/optim/grad_scaler.h"

#include <atomic>
#include <cmath>

#include "weft/engine/ops/elementwise.h"
#include "weft/optim/gradients.h"

namespace weft::optim {

GradScaler::GradScaler(Device device, const Options& options)
    : options_(options),
      device_(device),
      scale_(Tensor::scalar(options.init_scale, DType::f32, device)),
      found_(Tensor::zeros({kernels::updates::kScaledOptimizers}, DType::f32, device)),
      left_out_(Tensor::zeros({kernels::updates::kScaledOptimizers}, DType::i64, device)),
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

GradScaler::Served& GradScaler::served(const Optimizer& optimizer) {
  for (Served& s : served_)
    if (s.optimizer == &optimizer) return s;
  const auto place = int64_t(served_.size());
  check(place < kernels::updates::kScaledOptimizers, "grad_scaler: ", optimizer.name(),
        " is one optimizer more than the ", place, " that a scaler can serve; make another scaler for it");
  served_.push_back({&optimizer, Stage::ready, found_.part(place, {}), left_out_.part(place, {})});
  return served_.back();
}

void GradScaler::unscale_(Optimizer& optimizer) {
  Served& own = served(optimizer);
  check(own.stage == Stage::ready, "grad_scaler: the gradients of ", optimizer.name(),
        " are unscaled already; call update() after each step");
  const Gradients gradients("grad_scaler", optimizer.parameters());
  check(gradients.empty() || gradients.on_gpu() == (device_ == Device::cuda),
        "grad_scaler: the gradients are not on ", device_, ", the scaler's device");
  if (gradients.on_gpu()) {
    kernels::cuda::unscale_gradients(gradients.upload().launch, scale_.data<float>(),
                                     own.found.data<float>());
  } else if (!gradients.empty()) {
    const double inverse = 1 / scale_.item();
    std::atomic<bool> found = false;
    gradients.for_each([&](size_t, int64_t n, auto* g) {
      using T = std::remove_reference_t<decltype(*g)>;
      bool finite = true;
      for (int64_t i = 0; i < n; ++i) finite = kernels::updates::unscale(g[i], T(float(inverse))) && finite;
      if (!finite) found = true;
    });
    if (found) own.found.fill(1);
  }
  own.stage = Stage::unscaled;  // not where that has failed
}

void GradScaler::step(Optimizer& optimizer) {
  Served& own = served(optimizer);
  // The gradients of now may be scaled anew, and nobody would divide them.
  check(own.stage != Stage::stepped, "grad_scaler: step() of ", optimizer.name(),
        " was called already since the last update(); call update() after each step");
  if (own.stage == Stage::ready) unscale_(optimizer);
  if (device_ == Device::cpu) {
    if (own.found.item() == 0) optimizer.step();
  } else {
    optimizer.set_skip(own.found);
    try {
      optimizer.step();
    } catch (...) {
      optimizer.set_skip({});
      throw;
    }
    optimizer.set_skip({});
  }
  own.stage = Stage::stepped;
}

void GradScaler::update() {
  for (Served& s : served_) s.stage = Stage::ready;
  const kernels::updates::LossScaleRule rule{options_.growth_factor, options_.backoff_factor,
                                             options_.growth_interval};
  float *scale = scale_.data<float>(), *found = found_.data<float>();
  int64_t *left_out = left_out_.data<int64_t>(), *tracker = tracker_.data<int64_t>(),
          *skipped = skipped_.data<int64_t>();
  if (device_ == Device::cuda)
    kernels::cuda::update_loss_scale(rule, scale, found, left_out, tracker, skipped);
  else
    rule.after_step(*scale, found, left_out, *tracker, *skipped);
}

void GradScaler::discard() {
  for (Served& s : served_) s.stage = Stage::ready;
  if (!kernels::cuda::capturing()) found_.fill(0);  // what is captured has not run
}

int64_t GradScaler::skipped() const { return *skipped_.to(Device::cpu).data<int64_t>(); }

void GradScaler::settle(Optimizer& optimizer, const std::vector<bool>& trained) {
  const Tensor& left_out = served(optimizer).left_out;
  const int64_t steps = *left_out.to(Device::cpu).data<int64_t>();
  if (device_ == Device::cuda) optimizer.uncount(steps, trained);
  *settled_.data<int64_t>() += steps;
  left_out.fill(0);
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
  const auto value = [&](const char* name) { return find(dict, name).to(Device::cpu).item(); };
  const double scale = value("scale"), skipped_steps = value("skipped"), settled_steps = value("settled");
  check(scale > 0 && std::isfinite(scale) && value("growth_tracker") >= 0 && settled_steps >= 0 &&
            settled_steps <= skipped_steps && skipped_steps <= 0x1p53,
        "grad_scaler: the loaded state is of no scaler (scale ", scale, ", growth_tracker ",
        value("growth_tracker"), ", skipped ", skipped_steps, ", settled ", settled_steps, ")");
  for (const auto& [name, tensor] : own) tensor.copy_from(find(dict, name));
  // Whose the steps are that were not settled when the state was saved, it does not say.
  left_out_.fill(0);
  left_out_.part(0, {}).fill(double(skipped() - *settled_.data<int64_t>()));
}

}  // namespace weft::optim
