#include <cmath>

#include "weft/kernels/reference/families.h"

namespace weft::kernels::plain {
namespace {

/// Calls f(i, c) for each element of an image's group: its place in x, and its channel.
template <class T, class F>
void each_of_group(const GroupNormArgs<T>& a, int64_t image, int64_t group, F&& f) {
  for (int64_t pixel = 0; pixel < a.pixels; ++pixel)
    for (int64_t k = 0; k < a.width(); ++k) {
      const int64_t c = group * a.width() + k;
      f((image * a.pixels + pixel) * a.channels + c, c);
    }
}

template <class T>
void group_norm_forward(const GroupNormArgs<T>& a, double eps, T* y, T* mean, T* rstd) {
  const double n = double(a.pixels * a.width());
  for (int64_t image = 0; image < a.batch; ++image)
    for (int64_t group = 0; group < a.groups; ++group) {
      double sum = 0, squares = 0;
      each_of_group(a, image, group, [&](int64_t i, int64_t) { sum += double(a.x[i]); });
      const double m = sum / n;
      each_of_group(a, image, group,
                    [&](int64_t i, int64_t) { squares += (double(a.x[i]) - m) * (double(a.x[i]) - m); });
      const double r = 1 / std::sqrt(squares / n + eps);
      mean[image * a.groups + group] = T(m);
      rstd[image * a.groups + group] = T(r);
      each_of_group(a, image, group, [&](int64_t i, int64_t c) {
        const double w = a.weight ? double(a.weight[c]) : 1, b = a.bias ? double(a.bias[c]) : 0;
        y[i] = T((double(a.x[i]) - m) * r * w + b);
      });
    }
}

template <class T>
void group_norm_backward(const GroupNormArgs<T>& a, const T* mean, const T* rstd, const T* dy, T* dx,
                         T* dweight, T* dbias) {
  const auto xhat = [&](int64_t i, int64_t image, int64_t group) {
    return (double(a.x[i]) - double(mean[image * a.groups + group])) * double(rstd[image * a.groups + group]);
  };
  for (int64_t c = 0; c < a.channels; ++c) {
    double weight_sum = 0, bias_sum = 0;
    for (int64_t row = 0; row < a.batch * a.pixels; ++row) {
      const int64_t i = row * a.channels + c;
      weight_sum += double(dy[i]) * xhat(i, row / a.pixels, c / a.width());
      bias_sum += double(dy[i]);
    }
    if (dweight) dweight[c] = T(weight_sum);
    if (dbias) dbias[c] = T(bias_sum);
  }
  if (!dx) return;
  const double n = double(a.pixels * a.width());
  for (int64_t image = 0; image < a.batch; ++image)
    for (int64_t group = 0; group < a.groups; ++group) {
      const auto g = [&](int64_t i, int64_t c) {
        return double(dy[i]) * (a.weight ? double(a.weight[c]) : 1);
      };
      double sum = 0, product = 0;
      each_of_group(a, image, group, [&](int64_t i, int64_t c) {
        sum += g(i, c);
        product += g(i, c) * xhat(i, image, group);
      });
      each_of_group(a, image, group, [&](int64_t i, int64_t c) {
        dx[i] = T(double(rstd[image * a.groups + group]) *
                  (g(i, c) - sum / n - xhat(i, image, group) * product / n));
      });
    }
}

}  // namespace

template <class T>
void set_group_norm(KernelTable<T>& table) {
  table.group_norm_forward = group_norm_forward<T>;
  table.group_norm_backward = group_norm_backward<T>;
}

template void set_group_norm(KernelTable<float>&);
template void set_group_norm(KernelTable<double>&);

}  // namespace weft::kernels::plain
