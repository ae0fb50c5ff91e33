#include "weft/apps/weft/axes.h"

#include <fmt/core.h>

#include <cmath>

namespace weft::app {

double Field::x(double v) const {
  const auto place = [this](double at) { return log_x ? std::log10(at) : at; };
  return left + width * (place(v) - place(x_low)) / (place(x_high) - place(x_low));
}

std::vector<double> ticks(double low, double high, int most) {
  double step = std::pow(10.0, std::floor(std::log10(high - low)) - 1);
  for (int i = 0; (high - low) / step > most; ++i) step *= i % 3 == 1 ? 2.5 : 2;  // 1, 2, 5, 10, ...
  std::vector<double> result;
  for (double i = std::ceil(low / step - 1e-9); i * step <= high + 1e-9 * step; ++i)
    result.push_back(i == 0 ? 0 : i * step);
  return result;
}

void draw_x_ticks(Drawing& d, const Field& f, const std::vector<double>& at, double size, bool lines) {
  for (double v : at) {
    if (lines) d.line({{f.x(v), f.top}, {f.x(v), f.bottom()}}, v == 0 ? kAxis : kGrid, 1);
    d.text({f.x(v), f.bottom() + 1.5 * size}, fmt::format("{:g}", v), kGrey, size, Anchor::middle);
  }
}

void draw_y_ticks(Drawing& d, const Field& f, const std::vector<double>& at, double size, bool lines) {
  for (double v : at) {
    if (lines) d.line({{f.left, f.y(v)}, {f.right(), f.y(v)}}, v == 0 ? kAxis : kGrid, 1);
    d.text({f.left - 0.6 * size, f.y(v) + 0.4 * size}, fmt::format("{:g}", v), kGrey, size, Anchor::end);
  }
}

void draw_frame(Drawing& d, const Field& f) {
  draw_corner(d, f);
  d.line({{f.left, f.top}, {f.right(), f.top}, {f.right(), f.bottom()}}, kAxis, 1);
}

void draw_corner(Drawing& d, const Field& f) {
  d.line({{f.left, f.top}, {f.left, f.bottom()}, {f.right(), f.bottom()}}, kAxis, 1);
}

}  // namespace weft::app
