#include "weft/kernels/cuda/activation_table.h"
#include "weft/kernels/cuda/activations.h"
#include "weft/kernels/cuda/map.h"
#include "weft/kernels/dual.h"

namespace weft::kernels::cuda {
namespace {

/// The second derivative of the fixed activation `act`.
WEFT_HD WEFT_OUT_OF_LINE float curvature(Activation act, float x, float param) {
  switch (act) {
#define WEFT_CASE(name)  \
  case Activation::name: \
    return math::curvature<activations::name>(x, param);
    WEFT_FOR_EACH_ACTIVATION(WEFT_CASE)
#undef WEFT_CASE
    default:
      return 0;
  }
}

template <class A>
struct ActivationForward {
  A act;
  float param;
  template <int N>
  __device__ void operator()(int64_t, const float (&x)[1][N], float (&y)[1][N]) const {
#pragma unroll
    for (int j = 0; j < N; ++j) y[0][j] = act.forward(x[0][j], param);
  }
};

/// x, dy -> dx
template <class A>
struct ActivationBackward {
  A act;
  float param;
  template <int N>
  __device__ void operator()(int64_t, const float (&in)[2][N], float (&dx)[1][N]) const {
#pragma unroll
    for (int j = 0; j < N; ++j) dx[0][j] = in[1][j] * act.derivative(in[0][j], param);
  }
};

template <class T>
void activation(Activation act, Wide<T> param, int64_t n, const T* x, T* y) {
  with_activation(act, [&]<class A>(A a) { map<1, 1, T>(n, {{x}, {y}}, ActivationForward<A>{a, param}); });
}

template <class T>
void activation_backward(Activation act, Wide<T> param, int64_t n, const T* x, const T* dy, T* dx) {
  with_activation(act, [&]<class A>(A a) {
    map<2, 1, T>(n, {{x, dy}, {dx}}, ActivationBackward<A>{a, param});
  });
}

/// Before calls of any activation sums take half of the registers that both operands would.
template <int M, int N>
__device__ inline void add_up(const float (&in)[M][N], float (&z)[N]) {
#pragma unroll
  for (int j = 0; j < N; ++j) z[j] = in[0][j] + in[1][j];
}

/// a, b -> y
template <class A>
struct AddActivationForward {
  static constexpr int kPacks = std::is_same_v<A, AnyActivation> ? 1 : 2;  // calls leave few registers
  A act;
  float param;
  template <int N>
  __device__ void operator()(int64_t, const float (&in)[2][N], float (&y)[1][N]) const {
    float z[N];
    add_up(in, z);
#pragma unroll
    for (int j = 0; j < N; ++j) y[0][j] = act.forward(z[j], param);
  }
};

/// a, b, dy -> g
template <class A>
struct AddActivationBackward {
  A act;
  float param;
  template <int N>
  __device__ void operator()(int64_t, const float (&in)[3][N], float (&g)[1][N]) const {
    float z[N];
    add_up(in, z);
#pragma unroll
    for (int j = 0; j < N; ++j) g[0][j] = in[2][j] * act.derivative(z[j], param);
  }
};

template <class T>
void add_activation(Activation act, Wide<T> param, int64_t n, const T* a, const T* b, T* y) {
  with_activation(act, [&]<class A>(A f) {
    map<2, 1, T>(n, {{a, b}, {y}}, AddActivationForward<A>{f, param});
  });
}

template <class T>
void add_activation_backward(Activation act, Wide<T> param, int64_t n, const T* a, const T* b, const T* dy,
                             T* g) {
  with_activation(act, [&]<class A>(A f) {
    map<3, 1, T>(n, {{a, b, dy}, {g}}, AddActivationBackward<A>{f, param});
  });
}

/// x, w -> z. One kernel for all activations.
struct ActivationCurvature {
  Activation act;
  float param;
  template <int N>
  __device__ void operator()(int64_t, const float (&in)[2][N], float (&z)[1][N]) const {
#pragma unroll
    for (int j = 0; j < N; ++j) z[0][j] = in[1][j] * curvature(act, in[0][j], param);
  }
};

template <class T>
void activation_curvature(Activation act, Wide<T> param, int64_t n, const T* x, const T* w, T* z) {
  map<2, 1, T>(n, {{x, w}, {z}}, ActivationCurvature{act, param});
}

}  // namespace

template <class T>
void set_activation(KernelTable<T>& table) {
  table.activation = activation<T>;
  table.activation_backward = activation_backward<T>;
  table.add_activation = add_activation<T>;
  table.add_activation_backward = add_activation_backward<T>;
  table.activation_curvature = activation_curvature<T>;
}

template void set_activation(KernelTable<float>&);
template void set_activation(KernelTable<bf16>&);
template void set_activation(KernelTable<f16>&);

}  // namespace weft::kernels::cuda
