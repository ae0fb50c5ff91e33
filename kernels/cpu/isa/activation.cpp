#include "weft/kernels/cpu/isa/activations.h"
#include "weft/kernels/cpu/isa/kernels.h"
#include "weft/kernels/cpu/isa/loops.h"
#include "weft/kernels/dual.h"

namespace weft::kernels::WEFT_ISA {

void activation(Activation act, float param, int64_t n, const float* x, float* y) {
  with_activation(act, [=]<class A>(A) {
    parallel_vectors(n, [=](auto at, int64_t i) { at.store(A::forward(at.load(x + i), Vec(param)), y + i); });
  });
}

void activation_backward(Activation act, float param, int64_t n, const float* x, const float* dy, float* dx) {
  with_activation(act, [=]<class A>(A) {
    parallel_vectors(n, [=](auto at, int64_t i) {
      at.store(at.load(dy + i) * A::derivative(at.load(x + i), Vec(param)), dx + i);
    });
  });
}

void activation_curvature(Activation act, float param, int64_t n, const float* x, const float* w, float* z) {
  with_activation(act, [=]<class A>(A) {
    parallel_vectors(n, [=](auto at, int64_t i) {
      at.store(at.load(w + i) * math::curvature<A>(at.load(x + i), Vec(param)), z + i);
    });
  });
}

}  // namespace weft::kernels::WEFT_ISA
