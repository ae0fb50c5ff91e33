#include <cmath>

#include "weft/kernels/activation_in_hand.h"
#include "weft/kernels/reference/families.h"

namespace weft::kernels::plain {
namespace {

template <class T>
T normalised(const BatchNormArgs<T>& a, int64_t row, int64_t c) {
  return (a.x[row * a.channels + c] - a.mean[c]) * a.invstd[c];
}

/// z: what the activation is applied to.
template <class T>
T before_activation(const BatchNormArgs<T>& a, int64_t row, int64_t c) {
  const T z = normalised(a, row, c) * a.weight[c] + a.bias[c];
  return a.residual ? z + a.residual[row * a.channels + c] : z;
}

/// Calls f with the struct of the activation, fixed or learned.
template <class F>
void with_any_activation(Activation act, F&& f) {
  is_learned(act) ? with_learned_activation(act, f) : with_activation(act, f);
}

/// The activation with the parameters of a channel.
template <class A, class T>
InHand<A, T> in_hand(const BatchNormArgs<T>& a, int64_t c) {
  InHand<A, T> act;
  act.load(a, [c](const T* p) { return p[c]; });
  return act;
}

template <class T>
void batch_norm_stats(int64_t rows, int64_t channels, const T* x, T* mean, T* var) {
  for (int64_t c = 0; c < channels; ++c) {
    double sum = 0, squares = 0;
    for (int64_t r = 0; r < rows; ++r) sum += double(x[r * channels + c]);
    const double m = sum / double(rows);
    for (int64_t r = 0; r < rows; ++r) {
      const double d = double(x[r * channels + c]) - m;
      squares += d * d;
    }
    mean[c] = T(m);
    var[c] = T(squares / double(rows));
  }
}

template <class T>
void batch_norm_update(int64_t rows, int64_t channels, double eps, double momentum, const T* mean,
                       const T* var, T* running_mean, T* running_var, T* invstd) {
  const double unbiased = double(rows) / double(rows - 1);
  for (int64_t c = 0; c < channels; ++c) {
    invstd[c] = T(1 / std::sqrt(double(var[c]) + eps));
    if (!running_mean) continue;
    running_mean[c] = T((1 - momentum) * double(running_mean[c]) + momentum * double(mean[c]));
    running_var[c] = T((1 - momentum) * double(running_var[c]) + momentum * unbiased * double(var[c]));
  }
}

template <class T>
void batch_norm_forward(const BatchNormArgs<T>& a, T* y) {
  with_any_activation(a.activation, [&]<class A>(A) {
    for (int64_t r = 0; r < a.rows; ++r)
      for (int64_t c = 0; c < a.channels; ++c)
        y[r * a.channels + c] = in_hand<A>(a, c).forward(before_activation(a, r, c));
  });
}

template <class T>
void batch_norm_backward_reduce(const BatchNormArgs<T>& a, const T* dy, T* g, T* dweight, T* dbias,
                                T* const* gradients) {
  with_any_activation(a.activation, [&]<class A>(A) {
    constexpr int learned = kLearnedCount<A>;
    for (int64_t c = 0; c < a.channels; ++c) {
      const InHand<A, T> act = in_hand<A>(a, c);
      double weight_sum = 0, bias_sum = 0, parameter_sums[learned + 1] = {};
      for (int64_t r = 0; r < a.rows; ++r) {
        const int64_t i = r * a.channels + c;
        const T z = before_activation(a, r, c), gi = dy[i] * act.derivative(z);
        if constexpr (learned > 0) {
          T slopes[learned];
          act.gradients(z, slopes);
          for (int k = 0; k < learned; ++k) parameter_sums[k] += double(dy[i]) * double(slopes[k]);
        }
        weight_sum += double(gi) * double(normalised(a, r, c));
        bias_sum += double(gi);
        if (g) g[i] = gi;
      }
      dweight[c] = T(weight_sum);
      dbias[c] = T(bias_sum);
      for (int k = 0; k < learned; ++k) gradients[k][c] = T(parameter_sums[k]);
    }
  });
}

template <class T>
void batch_norm_backward_input(const BatchNormArgs<T>& a, const T* dy, const T* dweight, const T* dbias,
                               bool training, T* dx) {
  with_any_activation(a.activation, [&]<class A>(A) {
    for (int64_t r = 0; r < a.rows; ++r)
      for (int64_t c = 0; c < a.channels; ++c) {
        const int64_t i = r * a.channels + c;
        const T g = dy[i] * in_hand<A>(a, c).derivative(before_activation(a, r, c));
        // The batch's mean and variance depend on x too.
        const T through_stats = training ? (dbias[c] + normalised(a, r, c) * dweight[c]) / T(a.rows) : T(0);
        dx[i] = a.weight[c] * a.invstd[c] * (g - through_stats);
      }
  });
}

}  // namespace

template <class T>
void set_batch_norm(KernelTable<T>& table) {
  table.batch_norm_stats = batch_norm_stats<T>;
  table.batch_norm_update = batch_norm_update<T>;
  table.batch_norm_recomputes = has_cheap_slope;
  table.batch_norm_forward = batch_norm_forward<T>;
  table.batch_norm_backward_reduce = batch_norm_backward_reduce<T>;
  table.batch_norm_backward_input = batch_norm_backward_input<T>;
}

template void set_batch_norm(KernelTable<float>&);
template void set_batch_norm(KernelTable<double>&);

}  // namespace weft::kernels::plain
