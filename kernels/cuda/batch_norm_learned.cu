// Batch norm with the learned activations. The sums for their parameters are taken in the pass that takes
// those of weight and bias. A thread owns 4 channels, of 16-bit types too: with 8 of them the parameters and
// their sums would not fit into its registers.
#include "weft/kernels/cuda/batch_norm.h"
#include "weft/kernels/cuda/channel_sums.h"

namespace weft::kernels::cuda {
namespace {

template <class T, int V, class A>
__global__ void __launch_bounds__(kReduceThreads, kReduceBlocks)
    learned_reduce_kernel(A act, Tiling t, BatchNormArgs<T> a, const T* dy, T* g, float* partial) {
  const Place<V> at(t);
  float sums[kSums<A>][V] = {};
  sum_rows<Residual::perhaps>(act, at, a, dy, g, sums);
  store_block_sums(t, at, sums, partial);
}

/// Calls f with the struct of the activation, the channels that a thread owns, and how many threads of them
/// have 16 bytes.
template <class T, class F>
void choose(const BatchNormArgs<T>& a, std::initializer_list<const void*> others, F&& f) {
  constexpr int kOwn = 4;
  static_assert(kMostLearnedParameters == 4);
  const bool wide =
      a.channels % kOwn == 0 && aligned({a.x, a.mean, a.invstd, a.weight, a.bias, a.residual}) &&
      aligned({a.parameters[0], a.parameters[1], a.parameters[2], a.parameters[3]}) && aligned(others);
  with_learned_activation(a.activation, [&]<class A>(A act) {
    wide ? f(act, std::integral_constant<int, kOwn>{}, kWide<T> / kOwn)
         : f(act, std::integral_constant<int, 1>{}, 1);
  });
}

}  // namespace

template <class T>
void batch_norm_learned_forward(const BatchNormArgs<T>& a, T* y) {
  choose(a, {y}, [&]<class A, int V>(A act, std::integral_constant<int, V>, int packs) {
    const Tiling t = apply_tiling(a.rows, a.channels, V, packs);
    launch_early(batch_norm_forward_kernel<T, V, A, Residual::perhaps>, t.grid(), t.block(), act, t, a, y);
  });
}

template <class T>
void batch_norm_learned_backward_reduce(const BatchNormArgs<T>& a, const T* dy, T* g, float* dweight,
                                        float* dbias, float* const* gradients) {
  choose(a, {dy, g}, [&]<class A, int V>(A act, std::integral_constant<int, V>, int packs) {
    const Tiling t = reduce_tiling(a.rows, a.channels, V, packs);
    float* partial = partial_sums<kSums<A>>(t);
    launch(learned_reduce_kernel<T, V, A>, t.grid(), t.block(), act, t, a, dy, g, partial);
    SumTargets<kSums<A>> to{{dweight, dbias}, {a.invstd}};
    for (int k = 2; k < kSums<A>; ++k) to.of[k] = gradients[k - 2];
    combine_sums(t, partial, to);
  });
}

template <class T>
void batch_norm_learned_backward_input(const BatchNormArgs<T>& a, const T* dy, const float* dweight,
                                       const float* dbias, bool training, T* dx) {
  // In evaluation dweight and dbias are not read.
  choose(a, {dy, dx, training ? dweight : nullptr, training ? dbias : nullptr},
         [&]<class A, int V>(A act, std::integral_constant<int, V>, int packs) {
           const Tiling t = apply_tiling(a.rows, a.channels, V, packs);
           launch_early(batch_norm_input_kernel<T, V, A, Residual::perhaps>, t.grid(), t.block(), act, t, a,
                        dy, dweight, dbias, training, float(1 / double(a.rows)), dx);
         });
}

#define WEFT_INSTANTIATE(T)                                                                               \
  template void batch_norm_learned_forward(const BatchNormArgs<T>&, T*);                                  \
  template void batch_norm_learned_backward_reduce(const BatchNormArgs<T>&, const T*, T*, float*, float*, \
                                                   float* const*);                                        \
  template void batch_norm_learned_backward_input(const BatchNormArgs<T>&, const T*, const float*,        \
                                                  const float*, bool, T*);
WEFT_INSTANTIATE(float)
WEFT_INSTANTIATE(bf16)
WEFT_INSTANTIATE(f16)
#undef WEFT_INSTANTIATE

}  // namespace weft::kernels::cuda
