#include "weft/engine/anomaly.h"

#include <algorithm>
#include <cmath>

#include "weft/engine/tape.h"
#include "weft/kernels/cuda.h"

namespace weft {
namespace {

/// Index of the first value that is bad, or -1. Blocks without one are passed without a branch per value.
template <class T>
int64_t find_bad(const T* x, int64_t n, bool infinity) {
  const auto bad = [&](T value) {
    const auto v = static_cast<std::conditional_t<std::is_same_v<T, double>, double, float>>(value);
    return infinity ? !std::isfinite(v) : std::isnan(v);
  };
  for (int64_t begin = 0; begin < n; begin += 256) {
    const int64_t end = std::min(n, begin + 256);
    unsigned any = 0;
    for (int64_t i = begin; i < end; ++i) any |= unsigned(bad(x[i]));
    for (int64_t i = begin; any && i < end; ++i)
      if (bad(x[i])) return i;
  }
  return -1;
}

/// The position of a flat index.
Shape position(Shape shape, int64_t index) {
  for (int i = shape.ndim() - 1; i >= 0; --i) {
    const int64_t size = shape[i];
    shape.set(i, index % size);
    index /= size;
  }
  return shape;
}

std::string within(std::string_view scope) { return scope.empty() ? "" : concat(" in ", scope); }

}  // namespace

DetectAnomaly::DetectAnomaly(const DetectAnomalyOptions& options) : options_(options), in_force_(this) {}
DetectAnomaly::~DetectAnomaly() = default;

DetectAnomaly* DetectAnomaly::current() { return InForce<DetectAnomaly>::current(); }

int64_t DetectAnomaly::first_bad(const Tensor& t) const {
  if (!is_floating(t.dtype())) return -1;
  check(t.device() == Device::cpu || !kernels::cuda::capturing(),
        "detect_anomaly: values of a captured step can't be looked at; run it without capture (--eager)");
  const Tensor x = t.to(Device::cpu);
  switch (x.dtype()) {
    case DType::f32:
      return find_bad(x.data<float>(), x.numel(), options_.infinity);
    case DType::f64:
      return find_bad(x.data<double>(), x.numel(), options_.infinity);
    default: {
      const Tensor wide = x.to(DType::f32);
      return find_bad(wide.data<float>(), wide.numel(), options_.infinity);
    }
  }
}

std::string DetectAnomaly::describe(const Tensor& t) const {
  if (!t.defined()) return "none";
  const std::string kind = concat(t.dtype(), " ", t.shape());
  if (!is_floating(t.dtype())) return kind;
  const int64_t bad = first_bad(t);
  if (bad < 0) return kind + (options_.infinity ? " finite" : " without NaN");
  const double v = t.at(bad);
  return concat(kind, " has ", std::isnan(v) ? std::abs(v) : v, " at ", position(t.shape(), bad));
}

std::string DetectAnomaly::step() const {
  return options_.step < 0 ? "" : concat("step ", options_.step, ": ");
}

void DetectAnomaly::check_outputs(std::string_view op, const std::vector<Tensor>& inputs,
                                  const std::vector<Tensor>& outputs) const {
  for (size_t i = 0; i < outputs.size(); ++i) {
    const int64_t bad = first_bad(outputs[i]);
    if (bad < 0) continue;
    const Shape& shape = outputs[i].shape();
    std::string message = concat("detect_anomaly: ", step(), "forward of ", op, within(ScopeName::path()),
                                 ": output ", i, " ", describe(outputs[i]));
    if (shape.ndim() > 0) message += concat(", sample ", bad / (outputs[i].numel() / shape[0]));
    for (size_t k = 0; k < inputs.size(); ++k)
      message += concat("; input ", k, " ", inputs[k].defined() ? describe(inputs[k]) : "none");
    throw AnomalyError(message);
  }
}

void DetectAnomaly::check_gradient(std::string_view op, std::string_view scope, int input, const Tensor& grad,
                                   std::span<const Tensor> grad_outputs) const {
  const int64_t bad = first_bad(grad);
  if (bad < 0) return;
  std::string message = concat("detect_anomaly: ", step(), "backward of ", op, within(scope),
                               ": gradient of input ", input, " ", describe(grad));
  if (grad.ndim() > 0) message += concat(", sample ", bad / (grad.numel() / grad.size(0)));
  for (size_t k = 0; k < grad_outputs.size(); ++k)
    message += concat("; gradient of output ", k, " ",
                      grad_outputs[k].defined() ? describe(grad_outputs[k]) : "handed over");
  throw AnomalyError(message);
}

}  // namespace weft
