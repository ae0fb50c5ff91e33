#include "weft/apps/weft/train_step.h"

#include <cmath>

#include "weft/engine/ops/elementwise.h"
#include "weft/engine/ops/loss.h"
#include "weft/engine/ops/reduce.h"
#include "weft/engine/tape.h"
#include "weft/kernels/cuda/metrics.h"

namespace weft::app {
namespace {

/// The first brings plans and workspaces, the second finds the memory pool filled.
constexpr int64_t kEagerSteps = 2;

/// On the CPU what kernels::cuda::accumulate_metrics does on a GPU.
void accumulate(const Tensor& logits, const Tensor& labels, double loss, const Tensor& totals) {
  const Tensor predicted = argmax(logits);
  const int64_t n = labels.numel(), *guess = predicted.data<int64_t>(), *label = labels.data<int64_t>();
  double* t = totals.data<double>();
  t[0] += loss * double(n);
  for (int64_t i = 0; i < n; ++i) t[1] += guess[i] == label[i];
  t[2] += double(n);
  if (!std::isfinite(loss)) t[3] = 1;
}

}  // namespace

TrainStep::TrainStep(Module& model, optim::Optimizer& optimizer, const TrainStepOptions& options)
    : model_(model),
      optimizer_(optimizer),
      options_(options),
      totals_(Tensor::zeros({4}, DType::f64, options.device)),
      pool_(options.device) {
  if (options.dtype == DType::f16) scaler_.emplace(options.device);
  if (is_half(options.dtype)) copies_.emplace(model, options.dtype);
}

TrainStep::~TrainStep() = default;

void TrainStep::work(const data::DeviceBatch& batch) {
  Tensor logits;
  {
    std::optional<WeightCopies::Use> use;
    if (copies_) use.emplace(*copies_);
    Tape tape;
    logits = cast(model_(batch.images), DType::f32);
    const Tensor loss = cross_entropy(logits, batch.targets.defined() ? batch.targets : batch.labels,
                                      {.label_smoothing = options_.label_smoothing});
    logits = logits.detach();
    if (options_.device == Device::cuda)
      kernels::cuda::accumulate_metrics(logits.size(0), logits.size(1), logits.data<float>(),
                                        batch.labels.data<int64_t>(), loss.data<float>(),
                                        totals_.data<double>());
    else
      accumulate(logits, batch.labels, loss.item(), totals_);
    if (options_.device == Device::cpu && !std::isfinite(loss.item())) return;
    tape.backward(scaler_ ? scaler_->scale(loss) : loss);
  }
  if (scaler_) {
    scaler_->step(optimizer_);
    scaler_->update();
  } else {
    optimizer_.step();
  }
  optimizer_.zero_grad();
}

bool TrainStep::operator()(data::BatchLoader& loader) {
  const bool capture = options_.capture && options_.device == Device::cuda;
  if (!capture || loader.next_size() != loader.options().batch_size) {
    const auto batch = loader.next();
    if (batch) work(*batch);
    return batch.has_value();
  }
  if (!graph_) {
    const MemoryPool::Use use(pool_);  // and never again, for now the graph's work may be in all of it
    if (eager_steps_ < kEagerSteps) {
      ++eager_steps_;
      work(*loader.next());
      return true;
    }
    graph_ = kernels::cuda::capture([&] { work(*loader.next()); });
  }
  loader.feed();
  graph_->launch();
  return true;
}

StepTotals TrainStep::take_totals() {
  const std::vector<double> t = totals_.to_vector<double>();
  totals_.fill(0);
  return {.loss = t[0], .correct = t[1], .images = t[2], .finite = t[3] == 0};
}

StateDict TrainStep::state_dict() {
  if (!scaler_) return {};
  scaler_->settle(optimizer_);
  return scaler_->state_dict();
}

void TrainStep::load_state_dict(const StateDict& dict) {
  if (scaler_)
    scaler_->load_state_dict(dict);
  else
    check(dict.empty(), "train step: there is a state of loss scaling, but this precision has none");
}

}  // namespace weft::app
