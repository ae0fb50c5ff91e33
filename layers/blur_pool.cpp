#include "weft/layers/blur_pool.h"

#include "weft/engine/ops/conv.h"
#include "weft/engine/ops/matmul.h"
#include "weft/engine/ops/shape.h"

namespace weft {
namespace {

constexpr int64_t kMostTaps = 8;

/// Binomial coefficients, their sum made 1.
std::vector<double> taps_of(int64_t filter) {
  std::vector<double> taps{1};
  for (int64_t row = 1; row < filter; ++row) {
    taps.push_back(0);
    for (size_t i = taps.size(); i-- > 0;) taps[i] = (taps[i] + (i > 0 ? taps[i - 1] : 0)) / 2;
  }
  return taps;
}

Tensor filter_of(int64_t channels, int64_t size) {
  const std::vector<double> taps = taps_of(size);
  Tensor filter = Tensor::empty({channels, size, size, 1}, DType::f64);
  double* at = filter.data<double>();
  for (int64_t c = 0; c < channels; ++c)
    for (double row : taps)
      for (double column : taps) *at++ = row * column;
  return filter;
}

int64_t output_size(int64_t in, const BlurPool2dOptions& o) {
  return (in + 2 * ((o.filter - 1) / 2) - o.filter) / o.stride + 1;
}

/// One axis as a matrix [out, in]: the filter at its places, what hangs over an edge folded back.
Tensor matrix_of(int64_t in, const BlurPool2dOptions& o) {
  const std::vector<double> taps = taps_of(o.filter);
  const int64_t out = output_size(in, o);
  Tensor matrix = Tensor::zeros({out, in}, DType::f64);
  for (int64_t i = 0; i < out; ++i)
    for (int64_t k = 0; k < o.filter; ++k) {
      int64_t j = i * o.stride - (o.filter - 1) / 2 + k;
      if (j < 0) j = -j;
      if (j >= in) j = 2 * (in - 1) - j;
      matrix.data<double>()[i * in + j] += taps[size_t(k)];
    }
  return matrix;
}

}  // namespace

BlurPool2d::BlurPool2d(Module& parent, std::string_view name, const BlurPool2dOptions& options)
    : Module(parent, name), options_(options) {
  check(options.filter >= 1 && options.filter <= kMostTaps, "BlurPool2d ", name, ": a filter of ",
        options.filter, " taps; it must have 1 to ", kMostTaps);
  check(options.stride >= 1, "BlurPool2d ", name, ": stride ", options.stride, "; it must be at least 1");
}

Tensor BlurPool2d::forward(const Tensor& x) {
  check(x.ndim() == 4 && x.numel() > 0, "BlurPool2d: expected a non-empty input [N, H, W, C], got ",
        x.shape());
  return options_.reflect ? reflected(x) : zero_padded(x);
}

Tensor BlurPool2d::zero_padded(const Tensor& x) {
  const int64_t channels = x.size(3);
  const Tensor& filter = filter_.get(x, {channels}, [&] { return filter_of(channels, options_.filter); });
  return conv2d(x, filter, {},
                {.stride = options_.stride, .padding = (options_.filter - 1) / 2, .groups = channels});
}

Tensor BlurPool2d::reflected(const Tensor& x) {
  const int64_t n = x.size(0), h = x.size(1), w = x.size(2), c = x.size(3);
  const int64_t least = options_.filter / 2 + 1;
  check(h >= least && w >= least, "BlurPool2d: the image ", h, "x", w, " is too small to be mirrored under ",
        options_.filter, " taps; it must be at least ", least, "x", least,
        " here, so give the network larger ones");
  const Tensor& rows = rows_.get(x, {h}, [&] { return matrix_of(h, options_); });
  const Tensor& columns = columns_.get(x, {w}, [&] { return matrix_of(w, options_); });
  const int64_t oh = rows.size(0), ow = columns.size(0);
  const Tensor down = bmm(rows, reshape(x, {n, h, w * c}));
  return reshape(bmm(columns, reshape(down, {n * oh, w, c})), {n, oh, ow, c});
}

std::string BlurPool2d::description() const {
  return concat("BlurPool2d(filter ", options_.filter, ", stride ", options_.stride,
                options_.reflect ? ", reflect)" : ")");
}

MaxBlurPool2d::MaxBlurPool2d(Module& parent, std::string_view name, const MaxBlurPool2dOptions& options)
    : Module(parent, name),
      max(*this, "max", {.kernel = options.kernel, .stride = 1, .padding = options.padding}),
      blur(*this, "blur", options.blur) {}

}  // namespace weft
