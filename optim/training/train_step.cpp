#include "weft/optim/training/train_step.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "weft/engine/ops/elementwise.h"
#include "weft/engine/ops/reduce.h"
#include "weft/engine/tape.h"
#include "weft/kernels/cuda/metrics.h"
#include "weft/optim/clip.h"
#include "weft/optim/training/rows.h"

namespace weft::training {

namespace cuda = kernels::cuda;

namespace {

/// The first brings plans and workspaces, the second finds the memory pool filled.
constexpr int64_t kEagerSteps = 2;

void check_batch(const DeviceBatch& batch, Device device) {
  check(batch.x.size(0) == batch.y.size(0), "trainer: a batch has x ", batch.x.shape(), " but y ",
        batch.y.shape(), "; both must have the same number of samples");
  for (const Tensor& t : {batch.x, batch.y, batch.targets})
    if (t.defined())
      check(t.device() == device, "trainer: the batch is on ", t.device(), " and the module on ", device,
            "; batches have an option .device");
}

}  // namespace

TrainStep::TrainStep(Module& module, optim::Optimizer& optimizer, Loss loss, const TrainStepOptions& options)
    : module_(module),
      optimizer_(optimizer),
      loss_(std::move(loss)),
      options_(options),
      device_(device_of(module)),
      totals_(Tensor::zeros({cuda::kMetricCount}, DType::f64, device_)),
      pool_(device_) {
  check(options.accumulate >= 1, "trainer: accumulate is ", options.accumulate, "; it must be 1 or more");
  check(std::isfinite(options.clip_grad_norm) && options.clip_grad_norm >= 0, "trainer: clip_grad_norm is ",
        options.clip_grad_norm, "; it must be above 0, or 0 for no limit");
  check(!is_half(options.dtype) || device_ == Device::cuda, "trainer: precision ", options.dtype,
        " needs the module on a GPU; the CPU trains in f32 and f64, with products in bf16 by "
        "set_float32_matmul_precision(MatmulPrecision::medium)");
  if (options.dtype == DType::f16) scaler_.emplace(device_);
  if (is_half(options.dtype)) copies_.emplace(module, options.dtype);
}

TrainStep::~TrainStep() = default;

/// On the CPU what kernels::cuda::accumulate_metrics does on a GPU.
void TrainStep::add_totals(const Tensor& prediction, const Tensor& y, const Tensor& loss) {
  const int64_t n = y.size(0);
  labels_ = are_labels(prediction, y);
  if (device_ == Device::cuda) {
    // It counts right answers too: for what has no labels they mean nothing.
    const Tensor labels = labels_ ? y : Tensor::zeros({n}, DType::i64, device_);
    cuda::accumulate_metrics(n, labels_ ? prediction.size(1) : 0, prediction.data<float>(),
                             labels.data<int64_t>(), loss.data<float>(), totals_.data<double>());
    return;
  }
  double* t = totals_.data<double>();
  t[cuda::kMetricLoss] += loss.item() * double(n);
  if (labels_) t[cuda::kMetricCorrect] += double(count_correct(prediction, y));
  t[cuda::kMetricRows] += double(n);
  if (!std::isfinite(loss.item())) t[cuda::kMetricNotFinite] = 1;
}

/// The parameters whose gradients nobody looks at but the optimizer's formulas.
std::vector<Tensor> TrainStep::narrow() const {
  std::vector<Tensor> parameters;
  if (is_half(options_.dtype) && !scaler_ && options_.clip_grad_norm == 0 && options_.accumulate == 1 &&
      optimizer_.by_formula())
    for (const Parameter& p : optimizer_.parameters()) parameters.push_back(p.tensor);
  return parameters;
}

/// Whether the update writes the copies of the weights, so that the step needs not begin with converting
/// them. Only in captured steps: eager ones would find that the GPU has had other work since. Not where the
/// update may be left out.
bool TrainStep::follows() const {
  return copies_ && !scaler_ && cuda::capturing() && optimizer_.by_formula();
}

/// Adds the gradients of the batch's loss times `share`. False, and then nothing was added, where the loss is
/// seen not to be finite.
bool TrainStep::add_gradients(const DeviceBatch& batch, double share) {
  std::optional<WeightCopies::Use> use;
  if (copies_) use.emplace(*copies_, !follows());
  Tape tape;
  Tensor prediction = module_(input_of(batch.x, options_.dtype));
  if (is_half(prediction.dtype())) prediction = cast(prediction, DType::f32);
  Tensor loss = loss_(prediction, batch.targets.defined() ? batch.targets : batch.y);
  check(loss.defined() && loss.numel() == 1, "trainer: the loss must be one number, the mean over the batch");
  check(loss.device() == device_, "trainer: the loss is on ", loss.device(), " and the module on ", device_);
  add_totals(prediction.detach(), batch.y, loss);
  if (device_ == Device::cpu && !std::isfinite(loss.item())) return false;
  if (share != 1) loss = affine(loss, share);
  prediction = {};
  tape.backward(scaler_ ? scaler_->scale(loss) : loss, {.narrow = narrow()});
  return true;
}

/// What an error leaves behind of a step must not become a part of the next one.
void TrainStep::work(const DeviceBatch& batch) try {
  check_batch(batch, device_);
  const int64_t n = batch.x.size(0), parts = std::min(options_.accumulate, n);
  for (int64_t part = 0; part < parts; ++part) {
    const int64_t begin = n * part / parts, count = n * (part + 1) / parts - begin;
    const DeviceBatch piece{rows(batch.x, begin, count), rows(batch.y, begin, count),
                            batch.targets.defined() ? rows(batch.targets, begin, count) : Tensor()};
    if (!add_gradients(piece, parts == 1 ? 1 : double(count) / double(n))) {
      optimizer_.zero_grad();
      return;
    }
  }
  if (options_.clip_grad_norm > 0) {
    if (scaler_) scaler_->unscale_(optimizer_);
    optim::clip_grad_norm_async_(optimizer_.parameters(), options_.clip_grad_norm);
  }
  std::optional<WeightCopies::Follow> follow;
  if (follows()) follow.emplace(*copies_);
  if (scaler_) {
    scaler_->step(optimizer_);
    scaler_->update();
  } else {
    optimizer_.step();
  }
  if (follow) follow->finish();
  optimizer_.zero_grad();
} catch (...) {
  optimizer_.zero_grad();
  try {
    if (scaler_) scaler_->discard();
    if (!cuda::capturing()) totals_.fill(0);  // what is captured has not run
  } catch (const Error&) {
    // Where the GPU does nothing any more, the first error says why.
  }
  throw;
}

/// What a captured step does not see change: modes, frozen parameters, memory of parameters, groups. Nothing
/// where hooks are to be called. For MXResNet50 40 microseconds of the CPU, while the GPU has work.
std::optional<std::vector<uintptr_t>> TrainStep::form() const {
  std::vector<uintptr_t> form = {optimizer_.num_groups()};
  bool hooked = false;
  module_.visit([&](const std::string&, Module& m) {
    form.push_back(m.training());
    hooked |= m.has_hooks();
  });
  if (hooked) return {};
  for (const Parameter& p : module_.parameters()) {
    form.push_back(reinterpret_cast<uintptr_t>(p.tensor.raw()));
    form.push_back(p.tensor.requires_grad());
  }
  return form;
}

/// Steps that were left out are still in the counts of the parameters that took part in them, and no others.
void TrainStep::note_changes() {
  if (!scaler_) return;
  std::vector<bool> trained = optimizer_.trained();
  if (!trained_.empty() && trained != trained_) scaler_->settle(optimizer_, trained_);
  trained_ = std::move(trained);
}

bool TrainStep::operator()(Batches& batches) {
  note_changes();
  const bool capture = options_.capture && device_ == Device::cuda && batches.fixed_buffers() &&
                       batches.next_size() == batches.batch_size();
  const auto now = capture ? form() : std::nullopt;
  if (!now) {
    const auto batch = batches.next();
    if (batch) work(*batch);
    return batch.has_value();
  }
  if (graph_ && *now != form_) graph_.reset(), eager_steps_ = 0;
  if (!graph_) {
    pool_.forget_capture();            // of a graph before, or of one that failed
    const MemoryPool::Use use(pool_);  // and never again, for now the graph's work may be in all of it
    if (eager_steps_ < kEagerSteps) {
      work(*batches.next());
      ++eager_steps_;
      return true;
    }
    graph_ = cuda::capture([&] {
      follows_ = follows();
      work(*batches.next());
    });
    form_ = *now;
  }
  // What the graph's own update has written is good as long as nobody has done anything else on the GPU.
  if (follows_ && cuda::work_count() != work_count_) copies_->refresh();
  batches.feed();
  graph_->launch();
  work_count_ = cuda::work_count();
  return true;
}

StepTotals TrainStep::take_totals() {
  const std::vector<double> t = totals_.to_vector<double>();
  totals_.fill(0);
  return {.loss = t[cuda::kMetricLoss],
          .correct = labels_ ? t[cuda::kMetricCorrect] : std::numeric_limits<double>::quiet_NaN(),
          .samples = t[cuda::kMetricRows],
          .finite = t[cuda::kMetricNotFinite] == 0};
}

void TrainStep::settle() {
  note_changes();
  if (scaler_) scaler_->settle(optimizer_, trained_);
}

StateDict TrainStep::state_dict() {
  note_changes();
  return scaler_ ? scaler_->state_dict() : StateDict();
}

void TrainStep::load_state_dict(const StateDict& dict) {
  if (scaler_)
    scaler_->load_state_dict(dict);
  else
    check(dict.empty(), "train step: there is a state of loss scaling, but this precision has none");
  trained_.clear();
}

}  // namespace weft::training
