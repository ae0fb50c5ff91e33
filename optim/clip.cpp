#include "weft/optim/clip.h"

#include <cmath>

#include "weft/kernels/cuda.h"
#include "weft/optim/gradients.h"

namespace weft::optim {
namespace {

void check_finite(double norm) {
  check(std::isfinite(norm), "clip_grad_norm_: the norm of the gradients is ", norm);
}

}  // namespace

double clip_grad_norm_(const std::vector<Parameter>& parameters, double max_norm,
                       const ClipOptions& options) {
  check(max_norm >= 0, "clip_grad_norm_: max_norm is ", max_norm, "; it must be 0 or more");
  const Gradients gradients("clip_grad_norm_", parameters);
  if (gradients.on_gpu()) {
    namespace cuda = kernels::cuda;
    check(!cuda::capturing(), "clip_grad_norm_: its result can't be waited for in a captured step; use ",
          "clip_grad_norm_async_");
    const Gradients::OnGpu gpu = gradients.upload();
    cuda::gradient_norm(gpu.launch, max_norm, gpu.result);
    if (!options.error_if_nonfinite) cuda::scale_gradients(gpu.launch, gpu.result);
    double norm;
    cuda::download(&norm, &gpu.result->norm, sizeof norm);
    if (options.error_if_nonfinite) {
      check_finite(norm);
      cuda::scale_gradients(gpu.launch, gpu.result);
    }
    return norm;
  }
  std::vector<double> squares(gradients.num_chunks());
  gradients.for_each([&](size_t c, int64_t n, const auto* g) { squares[c] = sum_squares(n, g); });
  double sum = 0;
  for (double s : squares) sum += s;
  const double norm = std::sqrt(sum);
  if (options.error_if_nonfinite) check_finite(norm);
  const double factor = max_norm / (norm + 1e-6);
  if (factor >= 1) return norm;  // a NaN is not, and goes into the gradients
  gradients.for_each([&](size_t, int64_t n, auto* g) {
    const auto f = std::remove_reference_t<decltype(*g)>(factor);
    for (int64_t i = 0; i < n; ++i) g[i] *= f;
  });
  return norm;
}

void clip_grad_norm_async_(const std::vector<Parameter>& parameters, double max_norm) {
  const Gradients gradients("clip_grad_norm_async_", parameters);
  if (!gradients.on_gpu()) {
    clip_grad_norm_(parameters, max_norm);
    return;
  }
  check(max_norm >= 0, "clip_grad_norm_async_: max_norm is ", max_norm, "; it must be 0 or more");
  const Gradients::OnGpu gpu = gradients.upload();
  kernels::cuda::gradient_norm(gpu.launch, max_norm, gpu.result);
  kernels::cuda::scale_gradients(gpu.launch, gpu.result);
}

void clip_grad_value_(const std::vector<Parameter>& parameters, double limit) {
  check(limit >= 0, "clip_grad_value_: limit is ", limit, "; it must be 0 or more");
  const Gradients gradients("clip_grad_value_", parameters);
  if (gradients.on_gpu()) return kernels::cuda::clip_gradients(gradients.upload().launch, float(limit));
  gradients.for_each([&](size_t, int64_t n, auto* g) {
    const auto high = std::remove_reference_t<decltype(*g)>(limit);
    for (int64_t i = 0; i < n; ++i) g[i] = kernels::updates::clip_value(g[i], high);
  });
}

}  // namespace weft::optim
