#include <iterator>

#include "weft/kernels/reference/families.h"

namespace weft::kernels::plain {
namespace {

template <class T>
void learned_activation(const LearnedActivationArgs<T>& a, T* y) {
  with_learned_activation(a.activation, [&]<class A>(A) {
    constexpr size_t n = std::size(A::starts);
    for (int64_t r = 0; r < a.rows; ++r)
      for (int64_t c = 0; c < a.channels; ++c) {
        T p[n];
        for (size_t k = 0; k < n; ++k) p[k] = a.parameters[k][c];
        y[r * a.channels + c] = A::forward(a.x[r * a.channels + c], p);
      }
  });
}

template <class T>
void learned_activation_backward(const LearnedActivationArgs<T>& a, const T* dy, T* dx, T* const* gradients) {
  with_learned_activation(a.activation, [&]<class A>(A) {
    constexpr size_t n = std::size(A::starts);
    for (int64_t c = 0; c < a.channels; ++c) {
      T p[n], d[n];
      double sums[n] = {};
      for (size_t k = 0; k < n; ++k) p[k] = a.parameters[k][c];
      for (int64_t r = 0; r < a.rows; ++r) {
        const int64_t i = r * a.channels + c;
        const T g = dy[i];
        A::gradients(a.x[i], p, d);
        for (size_t k = 0; k < n; ++k) sums[k] += double(g) * double(d[k]);
        dx[i] = g * A::derivative(a.x[i], p);
      }
      for (size_t k = 0; k < n; ++k) gradients[k][c] = T(sums[k]);
    }
  });
}

}  // namespace

template <class T>
void set_learned_activation(KernelTable<T>& table) {
  table.learned_activation = learned_activation<T>;
  table.learned_activation_backward = learned_activation_backward<T>;
}

template void set_learned_activation(KernelTable<float>&);
template void set_learned_activation(KernelTable<double>&);

}  // namespace weft::kernels::plain
