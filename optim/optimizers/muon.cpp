#include "weft/optim/optimizers/muon.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <tuple>
#include <utility>

#include "weft/engine/anomaly.h"
#include "weft/engine/ops/elementwise.h"
#include "weft/engine/ops/matmul.h"
#include "weft/engine/ops/reduce.h"
#include "weft/engine/profile.h"
#include "weft/engine/tape.h"
#include "weft/kernels/cuda.h"
#include "weft/kernels/precision.h"
#include "weft/optim/multi_tensor.h"

namespace weft::optim {
namespace {

/// Whether a parameter has a matrix, and its rows and columns.
bool is_matrix(const Shape& shape) { return shape.ndim() >= 2; }
int64_t rows(const Shape& shape) { return shape[0]; }
int64_t columns(const Shape& shape) { return shape.numel() / std::max<int64_t>(shape[0], 1); }

double rate(const MuonOptions& o, const Shape& shape) {
  const double r = double(rows(shape)), c = double(columns(shape));
  if (o.adjust_lr == MuonRate::match_rms_adamw) return o.lr * 0.2 * std::sqrt(std::max(r, c));
  return o.lr * std::sqrt(std::max(1.0, r / c));
}

/// The smaller side of a matrix and the larger one over it.
struct Sides {
  double small, ratio;
  explicit Sides(const Shape& shape) {
    const double r = double(rows(shape)), c = double(columns(shape));
    small = std::min(r, c), ratio = std::max(r, c) / std::max(small, 1.0);
  }
};

/// Iterations that iterate_gram() does with one Gram matrix of X.
constexpr int64_t kWithOneGram = 3;

/// Products of small matrices that it takes.
int64_t gram_products(int64_t steps) {
  int64_t products = 0;
  for (int64_t left = steps; left > 0; left -= kWithOneGram) products += 4 * std::min(left, kWithOneGram) - 3;
  return products;
}
/// Multiplications and additions of the iterations on one matrix.
double direct_flops(const Sides& s, int64_t steps) {
  return double(steps) * (4 * s.ratio + 2) * std::pow(s.small, 3);
}
double gram_flops(const Sides& s, int64_t steps) {
  const int64_t grams = (steps + kWithOneGram - 1) / kWithOneGram;
  return (double(4 * grams) * s.ratio + double(2 * gram_products(steps))) * std::pow(s.small, 3);
}
/// Not on a GPU, whose products in TF32 leave no digits to spare. On the CPU it takes f32, where the direct
/// way may round to bf16, as published, and then is the faster for it.
bool by_gram(const Sides& s, int64_t steps, Device device) {
  constexpr double kBf16Gain = 1.7;
  const bool rounds = may_round_to_bf16() && cpu_multiplies_bf16();
  return device == Device::cpu && gram_flops(s, steps) < direct_flops(s, steps) / (rounds ? kBf16Gain : 1);
}

/// The iterations, on matrices [n, rows, columns] of norm 1 or less each. All that is computed on the way
/// goes to `kept` too, where that is given.
Tensor iterate_directly(Tensor x, const std::array<double, 3>& coefficients, int64_t steps,
                        std::vector<Tensor>* kept) {
  const auto [a, b, c] = coefficients;
  const bool tall = x.size(1) > x.size(2);  // then X^T X is the smaller product
  for (int64_t i = 0; i < steps; ++i) {
    const Tensor gram = bmm(x, x, {.transpose_a = tall, .transpose_b = !tall});
    const Tensor mixed = baddbmm(gram, gram, gram, {.beta = b, .alpha = c, .symmetric = true});
    if (kept) kept->insert(kept->end(), {x, gram, mixed});
    x = tall ? baddbmm(x, x, mixed, {.beta = a}) : baddbmm(x, mixed, x, {.beta = a});
  }
  return x;
}

/// Adds to the diagonals of matrices on the CPU.
template <class T>
void add_to_diagonals(const Tensor& square, double value) {
  const int64_t side = square.size(2);
  for (int64_t i = 0; i < square.size(0); ++i)
    for (int64_t j = 0; j < side; ++j) square.data<T>()[(i * side + j) * side + j] += T(value);
}

/// The same with fewer operations where one side is the longer. With A = X X^T and Q = a I + b A + c A^2 an
/// iteration makes Q X of X and Q A Q of A, so some of them make (.. Q' Q) X, and large matrices take part at
/// the beginning and the end alone. What rounding does to A grows with each; hence no more than three with
/// one A, where no more is lost than directly (docs/numerics.md).
Tensor iterate_gram(Tensor x, const std::array<double, 3>& coefficients, int64_t steps) {
  const MatmulPrecisionScope full(MatmulPrecision::highest);
  const auto [a, b, c] = coefficients;
  const bool tall = x.size(1) > x.size(2);
  while (steps > 0) {
    const int64_t now = std::min(steps, kWithOneGram);
    Tensor gram = bmm(x, x, {.transpose_a = tall, .transpose_b = !tall}), all;
    for (int64_t i = 0; i < now; ++i) {
      const Tensor q = baddbmm(gram, gram, gram, {.beta = b, .alpha = c, .symmetric = true});
      x.dtype() == DType::f32 ? add_to_diagonals<float>(q, a) : add_to_diagonals<double>(q, a);
      all = i == 0 ? q : bmm(q, all, {.symmetric = true});
      if (i + 1 < now) gram = bmm(q, bmm(gram, q, {.symmetric = true}), {.symmetric = true});
    }
    x = tall ? bmm(x, all) : bmm(all, x);
    steps -= now;
  }
  return x;
}

Tensor iterate(Tensor x, const std::array<double, 3>& coefficients, int64_t steps,
               std::vector<Tensor>* kept = nullptr) {
  return by_gram(Sides({x.size(1), x.size(2)}), steps, x.device())
             ? iterate_gram(std::move(x), coefficients, steps)
             : iterate_directly(std::move(x), coefficients, steps, kept);
}

/// Matrices of one shape, side by side.
struct Batch {
  std::vector<size_t> members;  // places in the group
  Tensor x;                     // [members, rows, columns]

  Tensor of(size_t member, const Shape& shape) const {
    return x.part(int64_t(member) * shape.numel(), shape);
  }
};
using Batches = std::map<std::tuple<DType, int64_t, int64_t>, Batch>;  // by type, rows, columns

/// Elements of a batch up to which it is small.
constexpr int64_t kSmall = int64_t{1} << 20;

/// The iterations of all. On a GPU, which small products would leave mostly idle, they are done beside the
/// large ones.
void iterate(Batches& batches, const MuonOptions& o, Device device) {
  const auto run = [&](bool small, std::vector<Tensor>* kept) {
    for (auto& [key, batch] : batches)
      if (batch.x.numel() > 0 && small == (batch.x.numel() <= kSmall))
        batch.x = iterate(std::move(batch.x), o.ns_coefficients, o.ns_steps, kept);
  };
  const bool two = device == Device::cuda && !Profiler::current() && !DetectAnomaly::current();
  std::vector<Tensor> kept;  // until its end nothing of the work beside may be released
  struct Await {
    int64_t number = 0;
    ~Await() {
      try {
        if (number > 0) kernels::cuda::await_beside(number);
      } catch (const std::exception&) {
        // CUDA is broken then, and says so again at the next call.
      }
    }
  } await;
  if (two)
    await.number = kernels::cuda::run_beside([&] { run(true, &kept); });
  else
    run(true, nullptr);
  run(false, nullptr);
}

}  // namespace

Tensor newton_schulz(const Tensor& matrices, const std::array<double, 3>& coefficients, int64_t steps,
                     double eps) {
  const int ndim = matrices.ndim();
  check(ndim == 2 || ndim == 3, "newton_schulz: the tensor is ", matrices.shape(),
        "; it must be a matrix, or a batch of them");
  const NoGrad no_grad;
  const Tensor x = matrices.view({ndim == 3 ? matrices.size(0) : 1, matrices.size(-2), matrices.size(-1)});
  const Tensor norms = sqrt(sum(square(x), {1, 2}, true));
  const Tensor least = Tensor::scalar(eps, x.dtype(), x.device());
  return iterate(div(x, maximum(norms, least)), coefficients, steps).view(matrices.shape());
}

void Muon::add_group(const std::vector<Parameter>& parameters, const Options& options) {
  GroupedOptimizer::add_group(parameters, options);
  for (Entry& entry : groups_.back().entries)
    if (is_matrix(entry.shape)) entry.state[1] = {};
  Group last = groups_.back();
  last.slots = {{"exp_avg_sq"}};
  for (Entry& entry : last.entries) entry.state = {entry.state[1]};
  if (device_ == Device::cuda) last.gpu_memory = MultiTensor::gpu_memory(last);
  last_.push_back(std::move(last));
}

double Muon::product_flops() const {
  double flops = 0;
  for (size_t g = 0; g < groups_.size(); ++g)
    for (const Entry& entry : groups_[g].entries) {
      if (!is_matrix(entry.shape)) continue;
      const Sides sides(entry.shape);
      const int64_t steps = options(g).ns_steps;
      flops += by_gram(sides, steps, device_) ? gram_flops(sides, steps) : direct_flops(sides, steps);
    }
  return flops;
}

void Muon::check_options(const Options& o) const {
  check_common(o);
  check(o.ns_steps >= 0 && o.ns_steps < 100, "muon: ns_steps is ", o.ns_steps, "; it must be in [0, 100)");
  check(o.ns_eps > 0, "muon: ns_eps is ", o.ns_eps, "; it must be above 0");
  check(o.adamw_lr_factor >= 0, "muon: adamw_lr_factor is ", o.adamw_lr_factor, "; it must be 0 or more");
}

void Muon::update(size_t group) {
  std::vector<Entry>&entries = groups_[group].entries, &last = last_[group].entries;
  Batches batches;
  for (size_t i = 0; i < entries.size(); ++i) {
    const Entry& e = entries[i];
    if (is_matrix(e.shape) && e.param.tensor.grad().defined())
      batches[{e.dtype, rows(e.shape), columns(e.shape)}].members.push_back(i);
  }
  for (auto& [key, batch] : batches) {
    const auto [dtype, rows, columns] = key;
    const std::vector<size_t>& members = batch.members;
    batch.x = Tensor::empty({int64_t(members.size()), rows, columns}, dtype, device_);
    for (size_t j = 0; j < members.size(); ++j)
      entries[members[j]].state[1] = batch.of(j, entries[members[j]].shape);
  }
  MultiTensor::step(*this, group, [this, group](const Options& o, int64_t t, auto type, size_t i) {
    using T = decltype(type);
    const bool matrix = is_matrix(groups_[group].entries[i].shape);
    const double lr = o.lr * o.adamw_lr_factor, beta1 = matrix ? o.momentum : o.betas[0];
    return updates::muon<T>{.matrix = matrix,
                            .of_g = T(o.nesterov ? 1 - o.momentum : 0),
                            .of_m = T(o.nesterov ? o.momentum : 1),
                            .step = T(lr / (1 - std::pow(o.betas[0], double(t)))),
                            .root = T(1 / std::sqrt(1 - std::pow(o.betas[1], double(t)))),
                            .shrink = T(1 - lr * o.weight_decay),
                            .eps = T(matrix ? o.ns_eps : o.eps),
                            .beta1 = T(beta1),
                            .fresh1 = T(1 - beta1),
                            .beta2 = T(o.betas[1]),
                            .fresh2 = T(1 - o.betas[1])};
  });
  if (batches.empty()) return;
  const NoGrad no_grad;
  for (const auto& [key, batch] : batches)
    for (const size_t i : batch.members) entries[i].state[1] = {};
  iterate(batches, options(group), device_);
  for (const auto& [key, batch] : batches)
    for (size_t j = 0; j < batch.members.size(); ++j)
      last[batch.members[j]].state[0] = batch.of(j, last[batch.members[j]].shape);
  MultiTensor::run(
      *this, last_[group], [] {},
      [this, group](size_t i, auto type) {
        using T = decltype(type);
        const Options& o = options(group);
        const Shape& shape = last_[group].entries[i].shape;
        std::optional<updates::muon_apply<T>> work;
        if (is_matrix(shape) && shape.numel() > 0)
          work = updates::muon_apply<T>{.rate = T(rate(o, shape)), .shrink = T(1 - o.lr * o.weight_decay)};
        return work;
      });
  for (const auto& [key, batch] : batches)
    for (const size_t i : batch.members) last[i].state[0] = {};
}

StateDict Muon::state_dict() const {
  StateDict dict;
  for (const auto& [name, tensor] : GroupedOptimizer::state_dict())
    if (!name.ends_with("/exp_avg_sq") || (tensor.defined() && !is_matrix(tensor.shape())))
      dict.emplace_back(name, tensor);
  return dict;
}

}  // namespace weft::optim
