// Activations with learned parameters over [rows, channels], in strips of a few vectors of channels down a
// block of rows, so that what belongs to a channel stays in registers. Sums over rows are taken over fixed
// parts of the rows and merged in their order.
#include "weft/kernels/cpu/isa/activations.h"
#include "weft/kernels/cpu/isa/kernels.h"
#include "weft/kernels/cpu/isa/scratch.h"
#include "weft/kernels/cpu/isa/strips.h"

namespace weft::kernels::WEFT_ISA {
namespace {

/// The activation of a vector of channels.
template <class A, class At>
WEFT_INLINE InHand<A, Vec> in_hand(const LearnedActivationArgs<float>& a, At at, int64_t c) {
  InHand<A, Vec> act;
  act.load(a, [=](const float* p) { return at.load(p + c); });
  return act;
}

}  // namespace

void learned_activation(const LearnedActivationArgs<float>& args, float* y) {
  with_learned_activation(args.activation, [&]<class A>(A) {
    const LearnedActivationArgs<float> a = args;
    parallel_ranges(a.rows, rows_per_task(a.channels), [=](int64_t begin, int64_t end) {
      each_strip(begin, end, a.channels,
                 [=]<int n>(Strip<n>, auto at, int64_t first, int64_t last, int64_t c) {
                   InHand<A, Vec> act[n];
#pragma GCC unroll 4
                   for (int v = 0; v < n; ++v) act[v] = in_hand<A>(a, at, c + v * kWidth);
                   for (int64_t r = first; r < last; ++r)
#pragma GCC unroll 4
                     for (int v = 0; v < n; ++v) {
                       const int64_t i = r * a.channels + c + v * kWidth;
                       at.store(act[v].forward(at.load(a.x + i)), y + i);
                     }
                 });
    });
  });
}

void learned_activation_backward(const LearnedActivationArgs<float>& args, const float* dy, float* dx,
                                 float* const* gradients) {
  const int64_t rows = args.rows, channels = args.channels;
  const Parts parts(rows, channels);
  with_learned_activation(args.activation, [&]<class A>(A) {
    constexpr int count = kLearnedCount<A>;
    const Scratch scratch(parts.count * count * channels);
    float* sums = scratch.get();
    parallel_for(parts.count, [&](int64_t part) {
      const LearnedActivationArgs<float> a = args;
      float* of_part = sums + part * count * channels;
      clear(of_part, count * channels);
      each_strip(parts.begin(part), parts.begin(part + 1), channels,
                 [=]<int n>(Strip<n>, auto at, int64_t first, int64_t last, int64_t c) {
                   InHand<A, Vec> act[n];
                   Vec total[n][count];
#pragma GCC unroll 4
                   for (int v = 0; v < n; ++v) {
                     act[v] = in_hand<A>(a, at, c + v * kWidth);
#pragma GCC unroll 4
                     for (int k = 0; k < count; ++k) total[v][k] = Vec(0.0f);
                   }
                   for (int64_t r = first; r < last; ++r)
#pragma GCC unroll 4
                     for (int v = 0; v < n; ++v) {
                       const int64_t i = r * channels + c + v * kWidth;
                       const Vec x = at.load(a.x + i), g = at.load(dy + i);
                       Vec d[count];
                       act[v].gradients(x, d);
#pragma GCC unroll 4
                       for (int k = 0; k < count; ++k) total[v][k] = fma(g, d[k], total[v][k]);
                       at.store(g * act[v].derivative(x), dx + i);
                     }
#pragma GCC unroll 4
                   for (int v = 0; v < n; ++v)
#pragma GCC unroll 4
                     for (int k = 0; k < count; ++k) {
                       float* to = of_part + k * channels + c + v * kWidth;
                       at.store(at.load(to) + total[v][k], to);
                     }
                 });
    });
    for (int k = 0; k < count; ++k)
      for (int64_t c = 0; c < channels; ++c) {
        double sum = 0;
        for (int64_t part = 0; part < parts.count; ++part)
          sum += double(sums[(part * count + k) * channels + c]);
        gradients[k][c] = float(sum);
      }
  });
}

}  // namespace weft::kernels::WEFT_ISA
