#include "weft/engine/tensor_batches.h"

#include <algorithm>
#include <cstring>
#include <numeric>

#include "weft/engine/random.h"
#include "weft/kernels/cuda.h"
#include "weft/kernels/parallel.h"
#include "weft/kernels/philox.h"

namespace weft {

namespace cuda = kernels::cuda;

namespace {

constexpr uint64_t kOrderStream = 0x726f7773;  // "rows": apart from the other streams of the seed

Tensor gather_rows(const Tensor& from, const int64_t* rows, int64_t n) {
  Shape shape = from.shape();
  shape.set(0, n);
  const Tensor to = Tensor::empty(shape, from.dtype());
  const size_t bytes = size_t(from.bytes() / from.size(0));
  const char* source = static_cast<const char*>(from.raw());
  char* target = static_cast<char*>(to.raw());
  kernels::parallel_for(n, [&](int64_t i) {
    std::memcpy(target + size_t(i) * bytes, source + size_t(rows[i]) * bytes, bytes);
  });
  return to;
}

/// Visits the tensors that a batch has, and those of another one beside them.
template <class Visit>
void visit_tensors(const DeviceBatch& a, DeviceBatch& b, Visit&& visit) {
  visit(a.x, b.x), visit(a.y, b.y);
  if (a.targets.defined()) visit(a.targets, b.targets);
}

}  // namespace

struct TensorBatches::State {
  Tensor x, y;
  Options options;
  int64_t batches = 0, epoch = -1, given = 0;
  std::vector<int64_t> order;
  bool running = false;
  DeviceBatch prepared;  // on the CPU, what is uploaded for one step
  DeviceBatch fixed;     // on the GPU

  int64_t size_of_next() const {
    if (!running || given >= batches) return 0;
    return std::min(options.batch_size, x.size(0) - given * options.batch_size);
  }

  /// The next batch, on the CPU.
  DeviceBatch take() {
    const int64_t n = size_of_next(), *rows = order.data() + given * options.batch_size;
    DeviceBatch batch{gather_rows(x, rows, n), gather_rows(y, rows, n), {}};
    if (options.transform) batch = options.transform(std::move(batch), epoch, given);
    ++given;
    return batch;
  }

  /// Takes the next batch, which must fit into `fixed`.
  void prepare() {
    prepared = take();
    visit_tensors(fixed, prepared, [](const Tensor& to, const Tensor& from) {
      check(from.defined() && from.shape() == to.shape() && from.dtype() == to.dtype(),
            "batches: transform made a full batch of another shape or dtype than the one before");
    });
  }

  /// Starts, or records, the uploads that fill `fixed`.
  static void fill_fixed(const std::shared_ptr<State>& s) {
    const auto upload = [&s](Tensor DeviceBatch::*part) {
      const Tensor& to = s->fixed.*part;
      cuda::upload_each_step(to.raw(), to.bytes(), [s, part](void* staging) {
        if (part == &DeviceBatch::x) s->prepare();  // the first of them
        std::memcpy(staging, (s->prepared.*part).raw(), size_t((s->prepared.*part).bytes()));
      });
    };
    upload(&DeviceBatch::x);
    upload(&DeviceBatch::y);
    if (s->fixed.targets.defined()) upload(&DeviceBatch::targets);
  }
};

TensorBatches::TensorBatches(const Tensor& x, const Tensor& y, const Options& options)
    : state_(std::make_shared<State>()) {
  check(x.ndim() > 0 && y.ndim() > 0 && x.size(0) == y.size(0) && x.size(0) > 0, "batches: x is ", x.shape(),
        " and y is ", y.shape(), "; they must have the same number of rows, and at least one");
  check(x.device() == Device::cpu && y.device() == Device::cpu,
        "batches: x and y must be on the CPU; the option `device` says where the batches are to be");
  check(options.batch_size >= 1, "batches: batch_size is ", options.batch_size, "; it must be 1 or more");
  State& s = *state_;
  s.x = x.detach(), s.y = y.detach(), s.options = options;
  s.batches = options.drop_last ? x.size(0) / options.batch_size : 1 + (x.size(0) - 1) / options.batch_size;
  check(s.batches > 0, "batches: ", x.size(0), " rows make no batch of ", options.batch_size,
        "; take a smaller batch_size, or keep the last one (drop_last = false)");
  s.order.resize(size_t(x.size(0)));
}

TensorBatches::~TensorBatches() = default;

int64_t TensorBatches::batches() const { return state_->batches; }
int64_t TensorBatches::batch_size() const { return state_->options.batch_size; }
int64_t TensorBatches::position() const { return state_->given; }
int64_t TensorBatches::epoch() const { return state_->epoch; }
int64_t TensorBatches::next_size() { return state_->size_of_next(); }
bool TensorBatches::fixed_buffers() const { return state_->options.device == Device::cuda; }

void TensorBatches::begin_epoch(int64_t epoch, int64_t first_batch) {
  State& s = *state_;
  check(epoch >= 0, "batches: epoch is ", epoch, ", but counts from 0");
  check(first_batch >= 0 && first_batch <= s.batches, "batches: first_batch is ", first_batch,
        ", but an epoch has ", s.batches, " batches");
  if (s.options.shuffle) {
    const auto key = kernels::philox(s.options.seed, uint64_t(epoch), kOrderStream);
    s.order = random_permutation(s.x.size(0), uint64_t(key[0]) << 32 | key[1]);
  } else {
    std::iota(s.order.begin(), s.order.end(), int64_t{0});
  }
  s.epoch = epoch, s.given = first_batch;
  s.running = true;
}

std::optional<DeviceBatch> TensorBatches::next() {
  State& s = *state_;
  if (cuda::capturing()) {
    check(s.fixed.x.defined(), "batches: a first full batch must have been given out before a capture");
    State::fill_fixed(state_);
    return s.fixed;
  }
  check(s.running, "batches: no epoch is begun, call begin_epoch first");
  const int64_t n = s.size_of_next();
  if (n == 0) {
    s.running = false;
    return std::nullopt;
  }
  if (s.options.device == Device::cpu) return s.take();
  if (n == s.options.batch_size && s.fixed.x.defined()) {
    State::fill_fixed(state_);
    return s.fixed;
  }
  const DeviceBatch batch = s.take();
  DeviceBatch there;
  visit_tensors(batch, there, [](const Tensor& from, Tensor& to) { to = from.to(Device::cuda); });
  if (n == s.options.batch_size) s.fixed = there;
  return there;
}

void TensorBatches::feed() {
  check(next_size() == batch_size(), "batches: the next batch has ", next_size(),
        " samples, and cannot be fed to a step captured for ", batch_size());
}

}  // namespace weft
