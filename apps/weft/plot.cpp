#include "weft/apps/weft/plot.h"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <utility>

#include "weft/apps/weft/axes.h"
#include "weft/kernels/initial_activation.h"

namespace weft::app {
namespace {

struct Curve {
  const char* label;
  double (*function)(Activation, double);
  uint32_t colour;
  double width;
};
// The value on top; colours that most people can tell apart.
constexpr std::array<Curve, 3> kCurves = {{{"second derivative", initial_curvature, 0x009e73, 1.4},
                                           {"derivative", initial_slope, 0xd55e00, 1.4},
                                           {"value", initial_value, 0x0072b2, 2.2}}};

using Samples = std::vector<Point>;

Samples sample(const Curve& curve, Activation act, double low, double high, int count) {
  Samples samples;
  for (int i = 0; i <= count; ++i) {
    const double x = low + (high - low) * i / count;
    samples.push_back({x, curve.function(act, x)});
  }
  return samples;
}

/// What the field shows of y: all of the curves within the height that x has in width.
void choose_range(Field& f, const std::array<Samples, 3>& curves) {
  double low = std::numeric_limits<double>::infinity(), high = -low;
  for (const Samples& samples : curves)
    for (const Point& p : samples)
      if (std::isfinite(p.y)) low = std::min(low, p.y), high = std::max(high, p.y);
  if (!(low <= high)) low = -1, high = 1;
  const double most = std::max(std::abs(f.x_low), std::abs(f.x_high));
  low = std::max(low, -most), high = std::min(high, most);
  if (!(high - low > 1e-12)) low -= 1, high += 1;
  const double margin = 0.06 * (high - low);
  f.y_low = low - margin;
  f.y_high = high + margin;
}

/// Whether the function jumps between samples i - 1 and i: by more than can be overlooked, and by much more
/// than it does beside them.
bool jumps(const Samples& samples, size_t i, const Field& f) {
  const auto step = [&](size_t k) {
    return k > 0 && k < samples.size() ? std::abs(samples[k].y - samples[k - 1].y) : 0.0;
  };
  return step(i) > 0.01 * (f.y_high - f.y_low) && step(i) > 8 * std::max(step(i - 1), step(i + 1));
}

/// Leaves out the points between two ends, appended without the first, that the eye can't tell from a line.
void simplify(const std::vector<Point>& points, size_t first, size_t last, std::vector<Point>& kept) {
  const Point a = points[first], b = points[last];
  const double dx = b.x - a.x, dy = b.y - a.y, length = std::hypot(dx, dy);
  size_t furthest = first;
  double most = 0.04;  // units of the sheet
  for (size_t i = first + 1; i < last; ++i) {
    const double distance = std::abs((points[i].x - a.x) * dy - (points[i].y - a.y) * dx) / length;
    if (distance > most) most = distance, furthest = i;
  }
  if (furthest == first) return kept.push_back(b);
  simplify(points, first, furthest, kept);
  simplify(points, furthest, last, kept);
}

/// The samples as lines, without what jumps or leaves the field.
void draw_curve(Drawing& d, const Field& f, const Samples& samples, const Curve& curve) {
  std::vector<Point> line;
  const auto finish = [&] {
    if (line.size() > 1) {
      std::vector<Point> kept = {line.front()};
      simplify(line, 0, line.size() - 1, kept);
      d.line(std::move(kept), curve.colour, curve.width);
    }
    line.clear();
  };
  for (size_t i = 0; i < samples.size(); ++i) {
    const Point p = samples[i];
    const bool shown = p.y >= f.y_low && p.y <= f.y_high;
    if (!shown || (i > 0 && jumps(samples, i, f))) finish();
    if (shown) line.push_back({f.x(p.x), f.y(p.y)});
  }
  finish();
}

}  // namespace

std::string parameters_text(Activation act) {
  const double param = initial_activation(act).parameters[0];
  if (is_random(act)) return fmt::format("{:g} in evaluation", param);
  if (is_fixed(act)) return param == 0 ? "" : fmt::format("{:g}", param);
  std::string text;
  for (const LearnedParameter& p : activation_parameters(act))
    text += fmt::format("{}{}={:g}", text.empty() ? "" : " ", p.name, p.start);
  return text;
}

Drawing plot_activations(const std::vector<Activation>& activations, double low, double high) {
  const int count = int(activations.size());
  const int columns = count <= 3 ? std::max(count, 1) : std::min(6, int(std::ceil(std::sqrt(count * 1.1))));
  const int rows = (count + columns - 1) / columns;
  const double width = count == 1 ? 560 : count <= 4 ? 380 : 270, height = 0.72 * width, head = 52;
  constexpr double kLeft = 42, kRight = 12, kTop = 28, kBottom = 24;
  Drawing d(std::max(columns * width, 420.0), head + rows * height);
  double at = 20;
  for (size_t i = kCurves.size(); i-- > 0;) {
    d.line({{at, 26}, {at + 26, 26}}, kCurves[i].colour, kCurves[i].width + 0.6);
    d.text({at + 33, 30}, kCurves[i].label, kInk, 13);
    at += 33 + stroke_text_width(kCurves[i].label, 13) + 24;
  }
  for (int i = 0; i < count; ++i) {
    const Activation act = activations[size_t(i)];
    const double left = i % columns * width, top = head + i / columns * height;
    Field f{left + kLeft, top + kTop, width - kLeft - kRight, height - kTop - kBottom, low, high, 0, 0};
    std::array<Samples, 3> curves;
    for (size_t k = 0; k < curves.size(); ++k)
      curves[k] = sample(kCurves[k], act, low, high, int(f.width) * 2);
    choose_range(f, curves);
    draw_x_ticks(d, f, ticks(f.x_low, f.x_high, 7), 9);
    draw_y_ticks(d, f, ticks(f.y_low, f.y_high, 6), 9);
    draw_frame(d, f);
    for (size_t k = 0; k < curves.size(); ++k) draw_curve(d, f, curves[k], kCurves[k]);
    const std::string name(activation_name(act)), parameters = parameters_text(act);
    d.text({f.left, f.top - 7}, name, kInk, 13);
    if (parameters.empty()) continue;
    d.text({f.left + stroke_text_width(name, 13) + 8, f.top - 7}, "(" + parameters + ")", kInk, 9);
  }
  return d;
}

}  // namespace weft::app
