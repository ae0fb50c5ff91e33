// Drawings, and the pictures of activations.
#include <doctest/doctest.h>

#include <cmath>
#include <span>
#include <string>
#include <vector>

#include "weft/apps/weft/axes.h"
#include "weft/apps/weft/command.h"
#include "weft/apps/weft/plot.h"
#include "weft/engine/data/image.h"

using namespace weft;
using namespace weft::app;

namespace {

data::Image picture(const Drawing& d, int scale) {
  const std::string file = d.png(scale);
  return data::decode_image({reinterpret_cast<const uint8_t*>(file.data()), file.size()});
}
uint32_t pixel(const data::Image& image, int x, int y) {
  const uint8_t* p = image.at(y, x);
  return uint32_t(p[0]) << 16 | uint32_t(p[1]) << 8 | p[2];
}

}  // namespace

TEST_CASE("a line covers its pixels, and half of those at its edge") {
  Drawing d(20, 10);
  d.line({{2, 5}, {18, 5}}, 0xff0000, 4);
  d.line({{-50, 1}, {50, 1}}, 0x0000ff, 1);  // leaves the sheet
  const data::Image image = picture(d, 1);
  CHECK(image.width == 20);
  CHECK(image.height == 10);
  for (int x : {3, 10, 17}) {
    CHECK(pixel(image, x, 4) == 0xff0000);
    CHECK(pixel(image, x, 5) == 0xff0000);
    CHECK(pixel(image, x, 2) == 0xffffff);
    CHECK(pixel(image, x, 8) == 0xffffff);
  }
  CHECK(pixel(image, 0, 5) != 0xff0000);
  CHECK(pixel(image, 19, 0) == 0x8080ff);
  CHECK(picture(d, 3).width == 60);
}

TEST_CASE("a drawing as SVG") {
  Drawing d(20, 10);
  d.line({{2, 5}, {18, 5.25}}, 0x00ff10, 1.5);
  d.text({3, 4}, "a < b & c", 0x123456, 9, Anchor::end);
  const std::string svg = d.svg();
  CHECK(svg.find("<polyline stroke=\"#00ff10\" stroke-width=\"1.5\" points=\"2.0,5.0 18.0,5.2 \"/>") !=
        std::string::npos);
  CHECK(svg.find(">a &lt; b &amp; c</text>") != std::string::npos);
  CHECK(svg.find("text-anchor=\"end\"") != std::string::npos);
  CHECK(svg.rfind("</svg>\n") == svg.size() - 7);
  CHECK(d.encode("a.svg") == svg);
  CHECK(d.encode("b.png").substr(1, 3) == "PNG");
  CHECK_THROWS_AS(d.encode("c.gif"), UsageError);
}

TEST_CASE("the stroke font has every character of the plots, and each fits") {
  for (char c : std::string("abcdefghijklmnopqrstuvwxyz0123456789(+-.,'=/_)")) {
    CAPTURE(c);
    const auto lines = stroke_text({0, 0}, std::string(1, c), 9);
    CHECK_FALSE(lines.empty());
    for (const auto& line : lines) {
      CHECK(line.size() > 1);
      for (const Point& p : line) {
        CHECK(p.x >= 0);
        CHECK(p.x <= 4);
        CHECK(p.y >= -7);
        CHECK(p.y <= 2);
      }
    }
  }
  CHECK(stroke_text({0, 0}, "A", 9).size() == stroke_text({0, 0}, "a", 9).size());
  CHECK(stroke_text_width("hh", 9) == 10);
  CHECK(stroke_text_width("h", 18) == 8);
  CHECK(stroke_text({5, 0}, "hh", 9).back().back().x == 15);
}

TEST_CASE("ticks are round numbers within") {
  CHECK(ticks(-5, 5, 7) == std::vector<double>{-4, -2, 0, 2, 4});
  CHECK(ticks(0, 1, 6) == std::vector<double>{0, 0.2, 0.4, 0.2 * 3, 0.8, 1});
  CHECK(ticks(0.1, 0.9, 3) == std::vector<double>{0.5});
  CHECK(ticks(0, 100, 10).size() == 11);
  for (double low : {-1e6, -3.3, 0.0017})
    for (double width : {1e-3, 1.0, 7e5}) {
      const auto t = ticks(low, low + width, 6);
      CHECK(t.size() <= 7);
      CHECK(t.size() >= 1);
    }
}

TEST_CASE("a field places numbers evenly, or by their logarithm") {
  const Field even{10, 20, 100, 50, 1, 100, 0, 10}, log{10, 20, 100, 50, 1, 100, 0, 10, true};
  CHECK(even.x(50.5) == 60);
  CHECK(log.x(10) == doctest::Approx(60));
  for (const Field& f : {even, log}) {
    CHECK(f.x(1) == 10);
    CHECK(f.x(100) == f.right());
    CHECK(f.y(0) == f.bottom());
    CHECK(f.y(10) == 20);
  }
}

TEST_CASE("every activation is drawn, and jumps are left open") {
  std::vector<Activation> all;
  for (int i = 0; i < kAllActivationCount; ++i) all.push_back(Activation(i));
  const std::string svg = plot_activations(all, -5, 5).svg();
  for (Activation act : all) CHECK(svg.find(">" + std::string(activation_name(act))) != std::string::npos);
  CHECK(svg.find(">(t_r=1 a_r=1 t_l=0 a_l=0.2)<") != std::string::npos);
  CHECK(svg.find(">(0.229167 in evaluation)<") != std::string::npos);
  CHECK(svg.find("nan") == std::string::npos);
  CHECK(svg.find("inf") == std::string::npos);
  // The slope of relu: two pieces, each a straight line.
  const std::string relu = plot_activations({Activation::relu}, -5, 5).svg();
  int pieces = 0;
  for (size_t at = relu.find("#d55e00\" stroke-width=\"1.4"); at != std::string::npos;
       at = relu.find("#d55e00\" stroke-width=\"1.4", at + 1))
    ++pieces;
  CHECK(pieces == 2);
  for (const auto& [low, high] : {std::pair(-1e6, 1e6), std::pair(0.999, 1.001), std::pair(-1e6, -999999.0)})
    CHECK(plot_activations({Activation::mish, Activation::sine_relu}, low, high).svg().find("nan") ==
          std::string::npos);
}
