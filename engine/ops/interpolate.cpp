#include "weft/engine/ops/interpolate.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "weft/engine/ops/elementwise.h"
#include "weft/engine/ops/gather.h"
#include "weft/engine/ops/shape.h"

namespace weft {
namespace {

/// Output element i of one dimension is (1 - part[i]) x[low[i]] + part[i] x[high[i]].
struct Between {
  std::vector<int64_t> low, high;
  std::vector<double> part;
};

// PyTorch computes the nearest row in f32, for all dtypes.
std::vector<int64_t> nearest_rows(int64_t in, int64_t out, double scale) {
  const float step = scale > 0 ? float(1 / scale) : float(in) / float(out);
  std::vector<int64_t> from;
  for (int64_t i = 0; i < out; ++i)
    from.push_back(in == out ? i : std::min(in - 1, int64_t(std::floor(float(i) * step))));
  return from;
}

Between linear_rows(int64_t in, int64_t out, double scale, bool align_corners) {
  const double step = align_corners ? (out > 1 ? double(in - 1) / double(out - 1) : 0)
                      : scale > 0   ? 1 / scale
                                    : double(in) / double(out);
  Between b;
  for (int64_t i = 0; i < out; ++i) {
    const double at = align_corners ? double(i) * step : std::max(0.0, (double(i) + 0.5) * step - 0.5);
    b.low.push_back(std::min(in - 1, int64_t(at)));
    b.high.push_back(std::min(in - 1, b.low.back() + 1));
    b.part.push_back(std::clamp(at - double(b.low.back()), 0.0, 1.0));
  }
  return b;
}

/// What one dimension is resized with: `which` of it, for x.
using Constant = std::function<Tensor(int which, const Tensor& like, const std::function<Tensor()>& make)>;

/// x at `out` rows (dim 1) or columns (dim 2).
Tensor resized(const Tensor& x, int dim, int64_t out, const InterpolateOptions& o, const Constant& constant) {
  const int64_t in = x.size(dim);
  const auto rows = [&](int which, const std::function<std::vector<int64_t>()>& from) {
    const Tensor indices = Tensor::empty({0}, DType::i64, x.device());
    return index_select(x, dim, constant(which, indices, [&] { return Tensor::from(from(), {out}); }));
  };
  if (o.mode == InterpolateMode::nearest)
    return in == out ? x : rows(0, [&] { return nearest_rows(in, out, o.scale); });
  if (in == out && (o.scale == 0 || o.scale == 1)) return x;
  const Between b = linear_rows(in, out, o.scale, o.align_corners);
  const Shape column = dim == 1 ? Shape{out, 1, 1} : Shape{out, 1};
  const Tensor part = constant(2, x, [&] { return Tensor::from(b.part, column); }),
               rest = constant(3, x, [&] { return 1.0 - Tensor::from(b.part, column); });
  return rows(0, [&] { return b.low; }) * rest + rows(1, [&] { return b.high; }) * part;
}

/// x with each pixel `rows` times `columns` times. Faster than by an index, and so is the way back.
Tensor repeated(const Tensor& x, int64_t rows, int64_t columns) {
  const int64_t n = x.size(0), h = x.size(1), w = x.size(2), c = x.size(3);
  const Tensor ones = Tensor::ones({rows, 1, columns, 1}, x.dtype(), x.device());
  return reshape(reshape(x, {n, h, 1, w, 1, c}) * ones, {n, h * rows, w * columns, c});
}

}  // namespace

Tensor ops::interpolate(const Tensor& x, const InterpolateOptions& o, const InterpolateConstant& constant) {
  check(x.ndim() == 4 && x.size(1) > 0 && x.size(2) > 0, "interpolate: x has shape ", x.shape(),
        "; expected [N, H, W, C] with pixels");
  const bool by_size = o.size[0] != 0 || o.size[1] != 0;
  check(by_size != (o.scale != 0),
        "interpolate: ", by_size ? "size and scale are both" : "neither size nor scale is",
        " given; give one of them");
  check(!o.align_corners || o.mode == InterpolateMode::bilinear,
        "interpolate: align_corners is an option of InterpolateMode::bilinear");
  std::array<int64_t, 2> size = o.size;
  if (!by_size) {
    check(std::isfinite(o.scale) && o.scale > 0, "interpolate: the scale is ", o.scale,
          "; it must be positive");
    for (int i = 0; i < 2; ++i) {
      const double scaled = std::floor(double(x.size(i + 1)) * o.scale);
      check(scaled < 0x1p31, "interpolate: scale ", o.scale, " of ", x.shape(), " is too large");
      size[size_t(i)] = int64_t(scaled);
    }
  }
  check(size[0] > 0 && size[1] > 0, "interpolate: ", x.shape(), " would become ", size[0], " x ", size[1],
        " pixels; there must be one or more");
  if (o.mode == InterpolateMode::nearest && size[0] % x.size(1) == 0 && size[1] % x.size(2) == 0 &&
      (by_size || o.scale == std::floor(o.scale)))
    return repeated(x, size[0] / x.size(1), size[1] / x.size(2));
  const auto of_dimension = [&](int dim) {
    return [&constant, dim, in = x.size(dim)](int which, const Tensor& like,
                                              const std::function<Tensor()>& make) {
      return constant(4 * (dim - 1) + which, like, {in}, make);
    };
  };
  return resized(resized(x, 1, size[0], o, of_dimension(1)), 2, size[1], o, of_dimension(2));
}

Tensor interpolate(const Tensor& x, const InterpolateOptions& options) {
  return ops::interpolate(x, options, [](int, const Tensor& like, const Shape&, const auto& make) {
    return make().to(like.dtype()).to(like.device());
  });
}

}  // namespace weft
