#include "weft/optim/clip.h"

#include <cmath>

#include "weft/optim/multi_tensor.h"

namespace weft::optim {
namespace {

/// The gradients that there are, cut into chunks.
struct Gradients {
  std::vector<Tensor> tensors;
  std::vector<ChunkRange> chunks;

  Gradients(const char* op, const std::vector<Parameter>& parameters) {
    for (const Parameter& p : parameters) {
      const Tensor& g = p.tensor.grad();
      if (!g.defined()) continue;
      check(g.dtype() == DType::f32 || g.dtype() == DType::f64, op, ": the gradient of '", p.name, "' is ",
            g.dtype(), "; only f32 and f64 can be clipped");
      cut(tensors.size(), g.numel(), chunks);
      tensors.push_back(g);
    }
  }

  /// Runs body(chunk index, n, pointer) on every chunk.
  template <class Body>
  void for_each(Body&& body) const {
    kernels::parallel_for(int64_t(chunks.size()), [&](int64_t c) {
      const ChunkRange& r = chunks[size_t(c)];
      const Tensor& t = tensors[r.entry];
      if (t.dtype() == DType::f32)
        body(size_t(c), r.end - r.begin, t.data<float>() + r.begin);
      else
        body(size_t(c), r.end - r.begin, t.data<double>() + r.begin);
    });
  }
};

}  // namespace

double clip_grad_norm_(const std::vector<Parameter>& parameters, double max_norm,
                       const ClipOptions& options) {
  check(max_norm >= 0, "clip_grad_norm_: max_norm is ", max_norm, "; it must be 0 or more");
  const Gradients gradients("clip_grad_norm_", parameters);
  std::vector<double> squares(gradients.chunks.size());
  gradients.for_each([&](size_t c, int64_t n, const auto* g) { squares[c] = sum_squares(n, g); });
  double sum = 0;
  for (double s : squares) sum += s;
  const double norm = std::sqrt(sum);
  check(!options.error_if_nonfinite || std::isfinite(norm), "clip_grad_norm_: the norm of the gradients is ",
        norm);
  const double factor = max_norm / (norm + 1e-6);
  if (factor >= 1) return norm;  // a NaN is not, and goes into the gradients
  gradients.for_each([&](size_t, int64_t n, auto* g) {
    const auto f = std::remove_reference_t<decltype(*g)>(factor);
    for (int64_t i = 0; i < n; ++i) g[i] *= f;
  });
  return norm;
}

void clip_grad_value_(const std::vector<Parameter>& parameters, double limit) {
  check(limit >= 0, "clip_grad_value_: limit is ", limit, "; it must be 0 or more");
  const Gradients gradients("clip_grad_value_", parameters);
  gradients.for_each([&](size_t, int64_t n, auto* g) {
    const auto high = std::remove_reference_t<decltype(*g)>(limit);
    for (int64_t i = 0; i < n; ++i) g[i] = g[i] > high ? high : g[i] < -high ? -high : g[i];
  });
}

}  // namespace weft::optim
