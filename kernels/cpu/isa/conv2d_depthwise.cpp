// Depthwise convolution (groups = in_c = out_c): each channel has its own filter, so a vector of channels is
// worked on at once and the weights are turned to [tap][channel] first.
#include "weft/kernels/cpu/isa/conv2d.h"
#include "weft/kernels/cpu/isa/panels.h"
#include "weft/kernels/parallel.h"

namespace weft::kernels::WEFT_ISA {
namespace {

constexpr int64_t kEnoughParts = 32, kLeastPixels = 256;

/// Parts of the output rows whose weight gradients are summed apart; fixed by the geometry alone.
int64_t weight_parts(const Conv2dParams& p) {
  return larger(
      1, smaller(kEnoughParts, smaller(p.batch * out_h(p), p.batch * out_h(p) * out_w(p) / kLeastPixels)));
}

int64_t workspace(const Conv2dParams& p, ConvPass pass) {
  const int64_t weights = p.kernel_h * p.kernel_w * p.in_c;
  return (pass == ConvPass::backward_weight ? weight_parts(p) : 1) * weights * int64_t(sizeof(float));
}

/// Calls body(offset, count) on the channels, a whole vector or the last few at a time.
template <class F>
WEFT_INLINE void each_vector(int64_t channels, F body) {
  int64_t c = 0;
  for (; c + kWidth <= channels; c += kWidth) body(c, int64_t{kWidth});
  if (c < channels) body(c, channels - c);
}
WEFT_INLINE Vec load(const float* p, int64_t n) { return n == kWidth ? Vec::load(p) : Vec::load_first(p, n); }
WEFT_INLINE void store(Vec v, float* p, int64_t n) { n == kWidth ? v.store(p) : v.store_first(p, n); }

void forward(const Conv2dParams& p, const float* x, const float* w, const float* bias, float* y,
             const ChannelStats& stats, float* workspace) {
  const int64_t oh = out_h(p), ow = out_w(p), channels = p.in_c, taps = p.kernel_h * p.kernel_w;
  transpose(w, taps, taps, channels, workspace, channels);
  parallel_for(p.batch * oh, [&](int64_t row) {
    const int64_t n = row / oh, i = row - n * oh;
    for (int64_t j = 0; j < ow; ++j) {
      float* out = y + (row * ow + j) * channels;
      each_vector(channels, [&](int64_t c, int64_t count) {
        Vec sum = bias ? load(bias + c, count) : Vec(0.0f);
        for (int64_t kh = 0; kh < p.kernel_h; ++kh) {
          const int64_t h = i * p.stride_h + kh * p.dilation_h - p.pad_h;
          if (uint64_t(h) >= uint64_t(p.in_h)) continue;
          for (int64_t kw = 0; kw < p.kernel_w; ++kw) {
            const int64_t v = j * p.stride_w + kw * p.dilation_w - p.pad_w;
            if (uint64_t(v) >= uint64_t(p.in_w)) continue;
            sum = fma(load(x + ((n * p.in_h + h) * p.in_w + v) * channels + c, count),
                      load(workspace + (kh * p.kernel_w + kw) * channels + c, count), sum);
          }
        }
        store(sum, out + c, count);
      });
    }
  });
  if (stats.mean) batch_norm_stats(p.batch * oh * ow, channels, y, stats.mean, stats.var);
}

/// The output position that filter index k takes input position i to, or -1.
WEFT_INLINE int64_t output_of(int64_t i, int64_t k, int64_t stride, int64_t pad, int64_t dilation,
                              int64_t out) {
  const int64_t at = i + pad - k * dilation;
  if (at < 0 || at % stride != 0) return -1;
  return at / stride < out ? at / stride : -1;
}

void backward_input(const Conv2dParams& p, const float* dy, const float* w, float* dx, float* workspace) {
  const int64_t oh = out_h(p), ow = out_w(p), channels = p.in_c, taps = p.kernel_h * p.kernel_w;
  transpose(w, taps, taps, channels, workspace, channels);
  parallel_for(p.batch * p.in_h, [&](int64_t row) {
    const int64_t n = row / p.in_h, i = row - n * p.in_h;
    for (int64_t j = 0; j < p.in_w; ++j) {
      float* out = dx + (row * p.in_w + j) * channels;
      each_vector(channels, [&](int64_t c, int64_t count) {
        Vec sum(0.0f);
        for (int64_t kh = 0; kh < p.kernel_h; ++kh) {
          const int64_t h = output_of(i, kh, p.stride_h, p.pad_h, p.dilation_h, oh);
          if (h < 0) continue;
          for (int64_t kw = 0; kw < p.kernel_w; ++kw) {
            const int64_t v = output_of(j, kw, p.stride_w, p.pad_w, p.dilation_w, ow);
            if (v < 0) continue;
            sum = fma(load(dy + ((n * oh + h) * ow + v) * channels + c, count),
                      load(workspace + (kh * p.kernel_w + kw) * channels + c, count), sum);
          }
        }
        store(sum, out + c, count);
      });
    }
  });
}

void backward_weight(const Conv2dParams& p, const float* x, const float* dy, float* dw, float* workspace) {
  const int64_t oh = out_h(p), ow = out_w(p), channels = p.in_c, taps = p.kernel_h * p.kernel_w;
  const int64_t parts = weight_parts(p), rows = p.batch * oh;
  parallel_for(parts, [&](int64_t part) {
    float* sums = workspace + part * taps * channels;
    for (int64_t i = 0; i < taps * channels; ++i) sums[i] = 0;
    for (int64_t row = part * rows / parts; row < (part + 1) * rows / parts; ++row) {
      const int64_t n = row / oh, i = row - n * oh;
      for (int64_t kh = 0; kh < p.kernel_h; ++kh) {
        const int64_t h = i * p.stride_h + kh * p.dilation_h - p.pad_h;
        if (uint64_t(h) >= uint64_t(p.in_h)) continue;
        for (int64_t kw = 0; kw < p.kernel_w; ++kw)
          each_vector(channels, [&](int64_t c, int64_t count) {
            float* at = sums + (kh * p.kernel_w + kw) * channels + c;
            Vec sum = load(at, count);
            for (int64_t j = 0; j < ow; ++j) {
              const int64_t v = j * p.stride_w + kw * p.dilation_w - p.pad_w;
              if (uint64_t(v) >= uint64_t(p.in_w)) continue;
              sum = fma(load(x + ((n * p.in_h + h) * p.in_w + v) * channels + c, count),
                        load(dy + (row * ow + j) * channels + c, count), sum);
            }
            store(sum, at, count);
          });
      }
    }
  });
  for (int64_t part = 1; part < parts; ++part)
    for (int64_t i = 0; i < taps * channels; ++i) workspace[i] += workspace[part * taps * channels + i];
  transpose(workspace, channels, channels, taps, dw, taps);
}

constexpr Convolution kDepthwise = {workspace, forward, backward_input, backward_weight};

}  // namespace

bool depthwise_suits(const Conv2dParams& p) {
  return p.groups == p.in_c && p.groups == p.out_c && p.in_c > 1;
}

const Convolution& depthwise_convolution() { return kDepthwise; }

}  // namespace weft::kernels::WEFT_ISA
