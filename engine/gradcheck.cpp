#include "weft/engine/gradcheck.h"

#include <cmath>

#include "weft/engine/ops/shape.h"
#include "weft/engine/tape.h"

namespace weft {

GradcheckResult gradcheck(const std::function<Tensor(const std::vector<Tensor>&)>& f,
                          const std::vector<Tensor>& inputs, const GradcheckOptions& options) {
  bool any = false;
  for (const Tensor& x : inputs) {
    check(!is_floating(x.dtype()) || x.dtype() == DType::f64, "gradcheck: inputs must be f64, got ",
          x.dtype());
    any |= x.requires_grad();
    if (x.requires_grad()) x.zero_grad();
  }
  check(any, "gradcheck: no input requires a gradient; call set_requires_grad()");

  Tensor upstream;  // r: a random gradient, because an all-ones one is blind to ops whose output has a
                    // constant sum
  {
    Tape tape;
    const Tensor y = f(inputs);
    Generator generator(options.seed);
    upstream = Tensor::normal(y.shape(), 0, 1, generator, DType::f64);
    tape.backward(y, upstream);
  }
  const auto objective = [&] {
    const Tensor y = f(inputs);
    double s = 0;
    for (int64_t i = 0; i < y.numel(); ++i) s += y.data<double>()[i] * upstream.data<double>()[i];
    return s;
  };

  GradcheckResult result;
  for (size_t k = 0; k < inputs.size(); ++k) {
    if (!inputs[k].requires_grad()) continue;
    double* x = inputs[k].data<double>();
    const Tensor grad = inputs[k].grad();
    for (int64_t i = 0; i < inputs[k].numel(); ++i) {
      const double saved = x[i], h = options.step * std::max(1.0, std::abs(saved));
      x[i] = saved + h;
      const double above = objective(), plus = x[i];
      x[i] = saved - h;
      const double below = objective(), minus = x[i];
      x[i] = saved;
      const double numeric = (above - below) / (plus - minus);
      const double analytic = grad.defined() ? grad.data<double>()[i] : 0;
      const double error = std::abs(analytic - numeric) / (options.atol / options.rtol + std::abs(numeric));
      if (!(error <= result.max_error)) result.max_error = error;
      if (!(error <= options.rtol) && result.ok) {
        result.ok = false;
        result.message = concat("input ", k, " ", inputs[k].shape(), ", element ", i, ": backward says ",
                                analytic, ", finite differences say ", numeric);
      }
    }
    inputs[k].zero_grad();
  }
  return result;
}

GradcheckResult gradgradcheck(const std::function<Tensor(const std::vector<Tensor>&)>& f,
                              const std::vector<Tensor>& inputs, const GradcheckOptions& options) {
  std::vector<Tensor> all = inputs;
  {
    const NoGrad quiet;
    Generator generator(options.seed + 1);
    all.push_back(Tensor::normal(f(inputs).shape(), 0, 1, generator, DType::f64));
    all.back().set_requires_grad();
  }
  const auto gradients = [&](Tape& tape, const std::vector<Tensor>& in, bool create_graph) {
    std::vector<Tensor> wanted;
    for (size_t k = 0; k + 1 < in.size(); ++k)
      if (in[k].requires_grad()) wanted.push_back(in[k]);
    std::vector<Tensor> parts =
        tape.grad(f({in.begin(), in.end() - 1}), wanted,
                  {.grad_outputs = {in.back()}, .create_graph = create_graph, .materialize_grads = true});
    const RecordOn joining(create_graph ? &tape : nullptr);
    for (Tensor& g : parts) g = reshape(g, {-1});
    return concat(parts, 0);
  };
  return gradcheck(
      [&](const std::vector<Tensor>& in) {
        if (Tape* tape = Tape::current()) return gradients(*tape, in, true);
        Tape tape;
        return gradients(tape, in, false).detach();
      },
      all, options);
}

}  // namespace weft
