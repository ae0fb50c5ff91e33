// interpolate and Upsample: gradients, second gradients and the edges. The values are in golden_ops_test.
#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "support/errors.h"
#include "support/gradients.h"
#include "weft/weft.h"

using namespace weft;
using namespace weft::test;

namespace {

const InterpolateOptions kForms[] = {
    {.scale = 2},
    {.scale = 1.4},
    {.size = {2, 7}},
    {.scale = 2, .mode = InterpolateMode::bilinear},
    {.size = {5, 3}, .mode = InterpolateMode::bilinear},
    {.size = {4, 9}, .mode = InterpolateMode::bilinear, .align_corners = true},
};

}  // namespace

TEST_CASE("interpolate: gradients, and theirs") {
  for (const InterpolateOptions& o : kForms) {
    CAPTURE(o.scale);
    CAPTURE(int(o.mode));
    check_both_gradients([&](const Inputs& in) { return interpolate(square(in[0]), o); },
                         {normal({2, 3, 5, 2})});
  }
}

TEST_CASE("interpolate: nearest repeats pixels, whatever they are, and the same size is the same image") {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const Tensor x = Tensor::from<float>({1, nan, 3, -0.F}, {1, 2, 2, 1}), y = interpolate(x, {.scale = 2});
  CHECK(y.shape() == Shape{1, 4, 4, 1});
  for (int64_t i = 0; i < 16; ++i) {
    const double want = x.at(i / 8 * 2 + i % 4 / 2);
    CHECK((y.at(i) == want || (std::isnan(want) && std::isnan(y.at(i)))));
  }
  CHECK(std::signbit(y.at(15)));
  // A bad pixel stays among its neighbours.
  const Tensor wide = interpolate(Tensor::from<float>({nan, 1, 2, 3}, {1, 1, 4, 1}),
                                  {.size = {1, 8}, .mode = InterpolateMode::bilinear});
  CHECK(std::isnan(wide.at(1)));
  for (int64_t i = 3; i < 8; ++i) CHECK(std::isfinite(wide.at(i)));
  const Tensor image = normal({2, 3, 5, 2});
  for (const InterpolateMode mode : {InterpolateMode::nearest, InterpolateMode::bilinear})
    CHECK(interpolate(image, {.size = {3, 5}, .mode = mode}).to_vector<double>() ==
          image.to_vector<double>());
  CHECK(interpolate(Tensor::zeros({0, 2, 2, 3}), {.scale = 1.5}).shape() == Shape{0, 3, 3, 3});
}

TEST_CASE("Upsample is interpolate, at any size of the images") {
  Sequential net;
  for (const InterpolateOptions& o : kForms) net.emplace<Upsample>(std::to_string(net.size()), o);
  for (size_t i = 0; i < net.size(); ++i)
    for (const Shape& shape : {Shape{2, 3, 5, 2}, Shape{1, 4, 4, 3}, Shape{2, 3, 5, 2}}) {
      const Tensor x = Tensor::normal(shape);
      CHECK(net[i](x).to_vector<float>() == interpolate(x, kForms[i]).to_vector<float>());
    }
  CHECK(net[0].description() == "Upsample(scale 2, nearest)");
  CHECK(net[5].description() == "Upsample(size 4 x 9, bilinear, align corners)");
  CHECK(net.state_dict().empty());
}

TEST_CASE("interpolate: errors") {
  const Tensor x = Tensor::ones({1, 3, 4, 2});
  CHECK_ERROR(interpolate(Tensor::ones({3, 4, 2}), {.scale = 2}),
              "x has shape [3, 4, 2]; expected [N, H, W, C]");
  CHECK_ERROR(interpolate(Tensor::ones({1, 0, 4, 2}), {.scale = 2}), "expected [N, H, W, C] with pixels");
  CHECK_ERROR(interpolate(x, {}), "neither size nor scale is given");
  CHECK_ERROR(interpolate(x, {.size = {2, 2}, .scale = 2}), "size and scale are both given");
  CHECK_ERROR(interpolate(x, {.scale = -1}), "the scale is -1; it must be positive");
  CHECK_ERROR(interpolate(x, {.scale = 0.2}), "would become 0 x 0 pixels");
  CHECK_ERROR(interpolate(x, {.size = {3, 0}}), "would become 3 x 0 pixels");
  CHECK_ERROR(interpolate(x, {.scale = 1e12}), "is too large");
  CHECK_ERROR(interpolate(x, {.scale = 2, .align_corners = true}), "align_corners is an option of");
}
