// Batch norm over [rows, channels], with the fixed activations.
#include "weft/kernels/cpu/isa/batch_norm.h"

#include "weft/kernels/cpu/isa/activations.h"
#include "weft/kernels/cpu/isa/channel_stats.h"

namespace weft::kernels::WEFT_ISA {

void batch_norm_stats(int64_t rows, int64_t channels, const float* x, float* mean, float* var) {
  const Parts parts(rows, channels);
  StatsParts stats(parts.count, channels);
  parallel_for(parts.count, [&](int64_t part) {
    const int64_t begin = parts.begin(part);
    stats.add(part, x + begin * channels, parts.begin(part + 1) - begin, channels, 0, channels);
  });
  stats.combine(mean, var);
}

void batch_norm_piece(const BatchNormArgs<float>& a, float* y, int64_t begin, int64_t end, int64_t channel,
                      int64_t columns) {
  if (is_learned(a.activation)) return batch_norm_learned_piece(a, y, begin, end, channel, columns);
  with_fused_activation(a.activation,
                        [&]<class A>(A) { batch_norm_rows<A>(a, y, begin, end, channel, columns); });
}

void batch_norm_forward(const BatchNormArgs<float>& a, float* y) {
  parallel_ranges(a.rows, rows_per_task(a.channels),
                  [&](int64_t begin, int64_t end) { batch_norm_piece(a, y, begin, end, 0, a.channels); });
}

void batch_norm_backward_reduce(const BatchNormArgs<float>& a, const float* dy, float* g, float* dweight,
                                float* dbias, float* const* gradients) {
  if (is_learned(a.activation))
    return batch_norm_learned_backward_reduce(a, dy, g, dweight, dbias, gradients);
  const Parts parts(a.rows, a.channels);
  constexpr int count = kSums<activations::identity>;
  const Scratch sums(parts.count * count * a.channels);
  with_fused_activation(a.activation, [&]<class A>(A) { batch_norm_sums<A>(a, parts, dy, g, sums.get()); });
  finish_sums(a, parts, sums.get(), count, dweight, dbias, nullptr);
}

void batch_norm_backward_input(const BatchNormArgs<float>& a, const float* dy, const float* dweight,
                               const float* dbias, bool training, float* dx) {
  if (is_learned(a.activation)) return batch_norm_learned_backward_input(a, dy, dweight, dbias, training, dx);
  with_fused_activation(
      a.activation, [&]<class A>(A) { batch_norm_input_gradient<A>(a, dy, dweight, dbias, training, dx); });
}

}  // namespace weft::kernels::WEFT_ISA
