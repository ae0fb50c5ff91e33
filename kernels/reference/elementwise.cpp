#include <cmath>

#include "weft/kernels/dual.h"
#include "weft/kernels/philox.h"
#include "weft/kernels/power.h"
#include "weft/kernels/reference/families.h"

namespace weft::kernels::plain {
namespace {

template <class T>
T apply(Unary op, T x) {
  switch (op) {
    case Unary::neg:
      return -x;
    case Unary::exp:
      return std::exp(x);
    case Unary::log:
      return std::log(x);
    case Unary::sqrt:
      return std::sqrt(x);
    case Unary::square:
      return x * x;
    case Unary::abs:
      return std::abs(x);
    case Unary::reciprocal:
      return T(1) / x;
    case Unary::sin:
      return std::sin(x);
    case Unary::cos:
      return std::cos(x);
  }
  return x;
}

template <class T>
T slope(Unary op, T x) {
  switch (op) {
    case Unary::neg:
      return T(-1);
    case Unary::exp:
      return std::exp(x);
    case Unary::log:
      return T(1) / x;
    case Unary::sqrt:
      return T(0.5) / std::sqrt(x);
    case Unary::square:
      return T(2) * x;
    case Unary::abs:
      return T(x > 0) - T(x < 0);  // 0 at the kink, as in PyTorch
    case Unary::reciprocal:
      return T(-1) / (x * x);
    case Unary::sin:
      return std::cos(x);
    case Unary::cos:
      return -std::sin(x);
  }
  return T(1);
}

template <class T>
T apply(Binary op, T a, T b) {
  switch (op) {
    case Binary::add:
      return a + b;
    case Binary::sub:
      return a - b;
    case Binary::mul:
      return a * b;
    case Binary::div:
      return a / b;
    case Binary::maximum:
      return maximum(a, b);
    case Binary::minimum:
      return minimum(a, b);
    case Binary::equal:
      return T(a == b);
  }
  return a;
}

template <class T>
void unary(Unary op, int64_t n, const T* x, T* y) {
  for (int64_t i = 0; i < n; ++i) y[i] = apply(op, x[i]);
}

template <class T>
void unary_backward(Unary op, int64_t n, const T* x, const T* dy, T* dx) {
  for (int64_t i = 0; i < n; ++i) dx[i] = dy[i] * slope(op, x[i]);
}

template <class T>
bool holds(Compare op, T a, T b) {
  switch (op) {
    case Compare::eq:
      return a == b;
    case Compare::ne:
      return a != b;
    case Compare::lt:
      return a < b;
    case Compare::le:
      return a <= b;
  }
  return false;
}

/// One loop per dimension; the innermost call writes the next element of y = f(a, b) and returns the place
/// after it.
template <class F, class T, class Y>
Y* walk(F f, const Broadcast& shape, int dim, const T* a, const T* b, Y* y) {
  if (dim == shape.ndim) {
    *y = Y(f(*a, *b));
    return y + 1;
  }
  for (int64_t i = 0; i < shape.size[dim]; ++i)
    y = walk(f, shape, dim + 1, a + i * shape.a_stride[dim], b + i * shape.b_stride[dim], y);
  return y;
}

template <class T>
void binary(Binary op, const Broadcast& shape, const T* a, const T* b, T* y) {
  walk([op](T u, T v) { return apply(op, u, v); }, shape, 0, a, b, y);
}

/// The same of y = c ? a : b.
template <class T>
T* walk_select(const Broadcast& shape, int dim, const uint8_t* c, const T* a, const T* b, T* y) {
  if (dim == shape.ndim) {
    *y = *c ? *a : *b;
    return y + 1;
  }
  for (int64_t i = 0; i < shape.size[dim]; ++i)
    y = walk_select(shape, dim + 1, c + i * shape.c_stride[dim], a + i * shape.a_stride[dim],
                    b + i * shape.b_stride[dim], y);
  return y;
}

template <class T>
void select(const Broadcast& shape, const uint8_t* c, const T* a, const T* b, T* y) {
  walk_select(shape, 0, c, a, b, y);
}

template <class T>
void pow(T exponent, int64_t n, const T* x, T* y) {
  for (int64_t i = 0; i < n; ++i) y[i] = power(x[i], exponent);
}

template <class T>
void affine(int64_t n, T alpha, T beta, const T* x, T* y) {
  for (int64_t i = 0; i < n; ++i) y[i] = alpha * x[i] + beta;
}

template <class T>
void activation(Activation act, T param, int64_t n, const T* x, T* y) {
  with_activation(act, [&]<class A>(A) {
    for (int64_t i = 0; i < n; ++i) y[i] = A::forward(x[i], param);
  });
}

template <class T>
void activation_backward(Activation act, T param, int64_t n, const T* x, const T* dy, T* dx) {
  with_activation(act, [&]<class A>(A) {
    for (int64_t i = 0; i < n; ++i) dx[i] = dy[i] * A::derivative(x[i], param);
  });
}

template <class T>
void activation_curvature(Activation act, T param, int64_t n, const T* x, const T* w, T* z) {
  with_activation(act, [&]<class A>(A) {
    for (int64_t i = 0; i < n; ++i) z[i] = w[i] * math::curvature<A>(x[i], param);
  });
}

template <class T>
void dropout(int64_t n, double p, const uint64_t* key, const T* x, T* y) {
  for (int64_t i = 0; i < n; ++i) y[i] = dropout_keep(*key, i, p) ? T(x[i] / (1 - p)) : T(0);
}

template <class T>
void rrelu(int64_t n, double lower, double upper, const uint64_t* key, const T* x, const T* in, T* out) {
  for (int64_t i = 0; i < n; ++i)
    out[i] = in[i] * activations::rrelu::slope(x[i], T(lower), T(upper - lower), T(uniform_at(*key, i)));
}

template <class T>
void choose_backward(int64_t n, const T* a, const T* b, const T* y, const T* dy, T* da, T* db) {
  for (int64_t i = 0; i < n; ++i) {
    const bool tie = a[i] == b[i], none = y[i] != y[i];  // a NaN: both get all, as in PyTorch
    da[i] = tie ? dy[i] / 2 : none || y[i] == a[i] ? dy[i] : T(0);
    db[i] = tie ? dy[i] / 2 : none || y[i] == b[i] ? dy[i] : T(0);
  }
}

}  // namespace

template <class T>
void set_elementwise(KernelTable<T>& table) {
  table.unary = unary<T>;
  table.unary_backward = unary_backward<T>;
  table.binary = binary<T>;
  table.compare = plain_compare<T>;
  table.select = select<T>;
  table.pow = pow<T>;
  table.affine = affine<T>;
  table.choose_backward = choose_backward<T>;
  table.activation = activation<T>;
  table.activation_backward = activation_backward<T>;
  table.activation_curvature = activation_curvature<T>;
  table.dropout = dropout<T>;
  table.rrelu = rrelu<T>;
}

template void set_elementwise(KernelTable<float>&);
template void set_elementwise(KernelTable<double>&);

}  // namespace weft::kernels::plain

namespace weft::kernels {

template <class T>
void plain_compare(Compare op, const Broadcast& shape, const T* a, const T* b, uint8_t* y) {
  plain::walk([op](T u, T v) { return plain::holds(op, u, v); }, shape, 0, a, b, y);
}

template void plain_compare(Compare, const Broadcast&, const float*, const float*, uint8_t*);
template void plain_compare(Compare, const Broadcast&, const double*, const double*, uint8_t*);
template void plain_compare(Compare, const Broadcast&, const int64_t*, const int64_t*, uint8_t*);
template void plain_compare(Compare, const Broadcast&, const uint8_t*, const uint8_t*, uint8_t*);

}  // namespace weft::kernels
