#include "weft/engine/data/transforms.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "weft/engine/data/preparation.h"
#include "weft/engine/error.h"

namespace weft::data {

namespace {

// One direction of a separable resize: output i is the sum of weights[i * stride + k] * input[first[i] + k],
// k < count[i].
struct Taps {
  std::vector<int> first, count;
  std::vector<float> weights;
  size_t stride = 0;
};

// `count` outputs. The formula is that of Pillow's precompute_coeffs.
Taps make_taps(const ResizeRange& range, int count) {
  const auto [start, length, total, from] = range;
  const double scale = length / total, support = std::max(scale, 1.0);
  const int low = int(std::floor(start)), high = int(std::ceil(start + length));
  Taps taps;
  taps.stride = size_t(std::ceil(support)) * 2 + 1;
  taps.first.resize(size_t(count));
  taps.count.resize(size_t(count));
  taps.weights.assign(size_t(count) * taps.stride, 0.0f);
  for (int i = 0; i < count; ++i) {
    const double center = start + (from + i + 0.5) * scale;
    const int first = std::max(int(std::floor(center - support + 0.5)), low);
    const int last = std::min(int(std::floor(center + support + 0.5)), high);
    float* weights = &taps.weights[size_t(i) * taps.stride];
    double sum = 0;
    for (int x = first; x < last; ++x) sum += std::max(0.0, 1 - std::abs((x - center + 0.5) / support));
    for (int x = first; x < last; ++x)
      weights[x - first] = float(std::max(0.0, 1 - std::abs((x - center + 0.5) / support)) / sum);
    taps.first[size_t(i)] = first;
    taps.count[size_t(i)] = last - first;
  }
  return taps;
}

// out[i] = sum over k of weights[k] * rows[k * pitch + i]: the vertical pass for one row. The commonest
// numbers of rows are spelt out, so that the sums stay in registers.
void blend_rows(const uint8_t* rows, size_t pitch, const float* weights, int count, int n,
                float* __restrict out) {
  const auto row = [=](int k) { return rows + size_t(k < count ? k : 0) * pitch; };
  const uint8_t *a = row(0), *b = row(1), *c = row(2), *d = row(3);
  const float* w = weights;
  if (count == 1)
    for (int i = 0; i < n; ++i) out[i] = w[0] * float(a[i]);
  else if (count == 2)
    for (int i = 0; i < n; ++i) out[i] = w[0] * float(a[i]) + w[1] * float(b[i]);
  else if (count == 3)
    for (int i = 0; i < n; ++i) out[i] = w[0] * float(a[i]) + w[1] * float(b[i]) + w[2] * float(c[i]);
  else
    for (int i = 0; i < n; ++i)
      out[i] = w[0] * float(a[i]) + w[1] * float(b[i]) + w[2] * float(c[i]) + w[3] * float(d[i]);
  for (int k = 4; k < count; ++k) {
    const uint8_t* more = row(k);
    for (int i = 0; i < n; ++i) out[i] += w[k] * float(more[i]);
  }
}

typedef float Four __attribute__((vector_size(16)));

Four load(const float* p) {
  Four v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

// Vertical pass into a row of floats, horizontal pass from there. Pixels are handled as four floats of which
// the last is the next pixel's first: it is overwritten when that one is written.
void resample(const Image& image, const Taps& rows, const Taps& columns, bool flip,
              const Normalize& normalize, float* out) {
  const int height = int(rows.first.size()), width = int(columns.first.size());
  const int left = *std::min_element(columns.first.begin(), columns.first.end());
  int right = 0;
  for (size_t x = 0; x < size_t(width); ++x) right = std::max(right, columns.first[x] + columns.count[x]);
  const size_t pitch = size_t(image.width) * 3;
  std::vector<float> tall(size_t(right - left) * 3 + 4), wide(size_t(width) * 3 + 4);
  Four scale{}, shift{};
  for (int c = 0; c < 3; ++c) {
    const auto i = size_t(c);
    scale[c] = 1 / (255 * normalize.std[i]);
    shift[c] = -normalize.mean[i] / normalize.std[i];
  }
  for (size_t y = 0; y < size_t(height); ++y) {
    blend_rows(image.at(rows.first[y], left), pitch, &rows.weights[y * rows.stride], rows.count[y],
               (right - left) * 3, tall.data());
    for (int x = 0; x < width; ++x) {
      const size_t from = size_t(flip ? width - 1 - x : x);
      const float* weights = &columns.weights[from * columns.stride];
      const float* pixel = &tall[size_t(columns.first[from] - left) * 3];
      Four sum{};
      for (int k = 0; k < columns.count[from]; ++k) sum += weights[k] * load(pixel + 3 * k);
      sum = sum * scale + shift;
      std::memcpy(&wide[size_t(x) * 3], &sum, sizeof sum);
    }
    std::memcpy(out + y * size_t(width) * 3, wide.data(), size_t(width) * 3 * sizeof(float));
  }
}

}  // namespace

void resize_by_plan(const Image& image, const ResizePlan& plan, int height, int width,
                    const Normalize& normalize, float* out) {
  resample(image, make_taps(plan.rows, height), make_taps(plan.columns, width), plan.flip, normalize, out);
}

ResizePlan crop_plan(ImageSize size, const Box& box, int height, int width, bool flip) {
  check(height > 0 && width > 0, "resize: cannot make a picture of ", width, " x ", height, " pixels");
  check(box.left >= 0 && box.top >= 0 && box.width > 0 && box.height > 0 &&
            box.left + box.width <= size.width && box.top + box.height <= size.height,
        "resize: box ", box.width, " x ", box.height, " at (", box.left, ", ", box.top,
        ") does not lie in a picture of ", size.width, " x ", size.height);
  return {{box.top, box.height, height, 0}, {box.left, box.width, width, 0}, flip};
}

ResizePlan center_crop_plan(ImageSize image, int size, int resize) {
  check(size > 0 && resize >= size, "center crop: the short side, resized to ", resize,
        ", must hold the crop of ", size);
  check(image.height > 0 && image.width > 0, "center crop: the picture is empty");
  const int64_t short_side = std::min(image.height, image.width),
                long_side = std::max(image.height, image.width);
  check(int64_t{resize} * long_side / short_side < (1 << 30), "center crop: a picture of ", image.width,
        " x ", image.height, " pixels is too thin to be resized to ", resize);
  const int height = int(int64_t{resize} * image.height / short_side),
            width = int(int64_t{resize} * image.width / short_side);
  // torchvision rounds half to even.
  const int top = int(std::nearbyint((height - size) / 2.0)),
            left = int(std::nearbyint((width - size) / 2.0));
  return {{0, double(image.height), height, top}, {0, double(image.width), width, left}, false};
}

void resize_crop(const Image& image, const Box& box, int height, int width, bool flip,
                 const Normalize& normalize, float* out) {
  resize_by_plan(image, crop_plan({image.height, image.width}, box, height, width, flip), height, width,
                 normalize, out);
}

void resize_center_crop(const Image& image, int size, int resize, const Normalize& normalize, float* out) {
  resize_by_plan(image, center_crop_plan({image.height, image.width}, size, resize), size, size, normalize,
                 out);
}

Image resize(const Image& image, const Box& box, int height, int width) {
  check(height > 0 && width > 0, "resize: a size of ", height, " x ", width, "; both must be above 0");
  Image out(height, width);
  std::vector<float> values(out.pixels.size());
  constexpr float unit = 1.0f / 255;
  resize_crop(image, box, height, width, false, {{0, 0, 0}, {unit, unit, unit}}, values.data());
  std::transform(values.begin(), values.end(), out.pixels.begin(),
                 [](float v) { return uint8_t(std::clamp(v + 0.5f, 0.0f, 255.0f)); });
  return out;
}

Image resize(const Image& image, int height, int width) {
  return resize(image, {0, 0, double(image.width), double(image.height)}, height, width);
}

}  // namespace weft::data
