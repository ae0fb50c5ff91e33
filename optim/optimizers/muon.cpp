#include "weft/optim/optimizers/muon.h"

#include <algorithm>
#include <cmath>

#include "weft/engine/ops/elementwise.h"
#include "weft/engine/ops/matmul.h"
#include "weft/engine/ops/reduce.h"
#include "weft/engine/ops/shape.h"
#include "weft/engine/tape.h"
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

}  // namespace

Tensor newton_schulz(const Tensor& matrix, const std::array<double, 3>& coefficients, int64_t steps,
                     double eps) {
  check(matrix.ndim() == 2, "newton_schulz: the tensor is ", matrix.shape(), "; it must be a matrix");
  const NoGrad no_grad;
  const auto [a, b, c] = coefficients;
  const bool tall = matrix.size(0) > matrix.size(1);  // then X^T X is the smaller product
  const Tensor norm = sqrt(sum(square(matrix)));
  Tensor x = div(matrix, maximum(norm, Tensor::full({}, eps, matrix.dtype(), matrix.device())));
  for (int64_t i = 0; i < steps; ++i) {
    const Tensor gram = matmul(x, x, {.transpose_a = tall, .transpose_b = !tall});
    const Tensor mixed = add(affine(gram, b), affine(matmul(gram, gram), c));
    x = add(affine(x, a), tall ? matmul(x, mixed) : matmul(mixed, x));
  }
  return x;
}

void Muon::add_group(const std::vector<Parameter>& parameters, const Options& options) {
  GroupedOptimizer::add_group(parameters, options);
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
      const double r = double(rows(entry.shape)), c = double(columns(entry.shape)), s = std::min(r, c);
      flops += double(options(g).ns_steps) * (4 * r * c * s + 2 * s * s * s);
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
  MultiTensor::step(*this, group, [this, group](const Options& o, int64_t t, auto type, size_t i) {
    using T = decltype(type);
    const bool matrix = is_matrix(groups_[group].entries[i].shape);
    const double lr = o.lr * o.adamw_lr_factor, beta1 = matrix ? o.momentum : o.betas[0];
    return updates::muon<T>{.matrix = matrix,
                            .of_g = T(o.nesterov ? 1 - o.momentum : 0),
                            .of_m = T(o.nesterov ? o.momentum : 1),
                            .step = T(lr / (1 - std::pow(o.betas[0], double(t)))),
                            .root = T(1 / std::sqrt(1 - std::pow(o.betas[1], double(t)))),
                            .eps = T(o.eps),
                            .shrink = T(1 - lr * o.weight_decay),
                            .beta1 = T(beta1),
                            .fresh1 = T(1 - beta1),
                            .beta2 = T(o.betas[1]),
                            .fresh2 = T(1 - o.betas[1])};
  });
  const NoGrad no_grad;
  const Options& now = options(group);
  for (const Entry& entry : groups_[group].entries) {
    if (!is_matrix(entry.shape) || entry.shape.numel() == 0 || !entry.param.tensor.grad().defined()) continue;
    const Tensor& v = entry.state[1];
    const Tensor matrix = reshape(v, {rows(entry.shape), columns(entry.shape)});
    v.copy_from(reshape(newton_schulz(matrix, now.ns_coefficients, now.ns_steps, now.ns_eps),
                        {v.shape().begin(), v.shape().end()}));
  }
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
}

StateDict Muon::state() const {
  StateDict dict;
  for (const auto& [name, tensor] : GroupedOptimizer::state())
    if (!name.ends_with("/exp_avg_sq") || !is_matrix(tensor.shape())) dict.emplace_back(name, tensor);
  return dict;
}

}  // namespace weft::optim
