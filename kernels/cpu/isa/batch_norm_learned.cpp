// Batch norm with the learned activations. The sums for their parameters are taken in the pass that takes
// those of weight and bias.
#include "weft/kernels/cpu/isa/activations.h"
#include "weft/kernels/cpu/isa/batch_norm.h"

namespace weft::kernels::WEFT_ISA {

void batch_norm_learned_piece(const BatchNormArgs<float>& a, float* y, int64_t begin, int64_t end,
                              int64_t channel, int64_t columns) {
  with_learned_activation(a.activation,
                          [&]<class A>(A) { batch_norm_rows<A>(a, y, begin, end, channel, columns); });
}

void batch_norm_learned_backward_reduce(const BatchNormArgs<float>& a, const float* dy, float* g,
                                        float* dweight, float* dbias, float* const* gradients) {
  const Parts parts(a.rows, a.channels);
  with_learned_activation(a.activation, [&]<class A>(A) {
    const Scratch sums(parts.count * kSums<A> * a.channels);
    batch_norm_sums<A>(a, parts, dy, g, sums.get());
    finish_sums(a, parts, sums.get(), kSums<A>, dweight, dbias, gradients);
  });
}

void batch_norm_learned_backward_input(const BatchNormArgs<float>& a, const float* dy, const float* dweight,
                                       const float* dbias, bool training, float* dx) {
  with_learned_activation(
      a.activation, [&]<class A>(A) { batch_norm_input_gradient<A>(a, dy, dweight, dbias, training, dx); });
}

}  // namespace weft::kernels::WEFT_ISA
