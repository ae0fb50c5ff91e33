#include "weft/engine/data/shapes.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>

#include "weft/kernels/philox.h"

namespace weft::data {

namespace {

constexpr double kPi = std::numbers::pi;

struct Point {
  double x, y;
};
using Color = std::array<double, 3>;

double length(Point p) { return std::hypot(p.x, p.y); }

// A stream of random numbers for one picture.
class Chance {
 public:
  Chance(uint64_t seed, uint64_t stream) : seed_(seed), stream_(stream) {}
  // Uniform in [low, high).
  double uniform(double low, double high) {
    if (left_ == 0) words_ = kernels::philox(seed_, block_++, stream_ << 8 | kTag), left_ = 4;
    return low + (high - low) * double(words_[--left_]) * 0x1p-32;
  }
  int integer(int low, int high) { return low + int(uniform(0, high - low + 1)); }
  Color color() { return {uniform(0, 255), uniform(0, 255), uniform(0, 255)}; }
  // A colour that can be told from `other`.
  Color color_unlike(const Color& other) {
    Color c;
    do c = color();
    while (std::hypot(c[0] - other[0], c[1] - other[1], c[2] - other[2]) < 160);
    return c;
  }

 private:
  // Keeps counter values apart from the loader's streams of the same seed.
  static constexpr uint64_t kTag = 0x73;
  uint64_t seed_, stream_, block_ = 0;
  std::array<uint32_t, 4> words_{};
  size_t left_ = 0;
};

// Signed distance to a polygon, negative inside: the distance to the nearest edge, its sign by counting the
// edges that a ray to the right crosses.
double polygon(Point p, const std::vector<Point>& corners) {
  double nearest = 1e9;
  bool inside = false;
  for (size_t i = 0, j = corners.size() - 1; i < corners.size(); j = i++) {
    const Point a = corners[j], b = corners[i], e{b.x - a.x, b.y - a.y}, v{p.x - a.x, p.y - a.y};
    const double t = std::clamp((v.x * e.x + v.y * e.y) / (e.x * e.x + e.y * e.y), 0.0, 1.0);
    nearest = std::min(nearest, length({v.x - t * e.x, v.y - t * e.y}));
    if ((a.y > p.y) != (b.y > p.y) && p.x < a.x + (p.y - a.y) / e.y * e.x) inside = !inside;
  }
  return inside ? -nearest : nearest;
}

// Corners at even angles, their radii in turn from `radii`.
std::vector<Point> corners_at(int count, std::array<double, 2> radii) {
  std::vector<Point> corners;
  for (int i = 0; i < count; ++i) {
    const double angle = 2 * kPi * i / count, r = radii[size_t(i % 2)];
    corners.push_back({r * std::cos(angle), r * std::sin(angle)});
  }
  return corners;
}

// What a shape is at point p of its own plane, about two units wide.
struct Look {
  double distance;      // signed, to the outline
  bool second = false;  // painted in the second colour
};

Look checkerboard(Point p) {
  return {length(p) - 1, (int(std::floor(p.x * 2.2 + 100)) + int(std::floor(p.y * 2.2 + 100))) % 2 == 0};
}
Look circle(Point p) { return {length(p) - 0.85}; }
Look crescent(Point p) { return {std::max(length(p) - 1, 0.8 - length({p.x - 0.5, p.y}))}; }
Look cross(Point p) {
  const double a = std::abs(p.x), b = std::abs(p.y);
  return {std::min(std::max(a - 1, b - 0.3), std::max(a - 0.3, b - 1))};
}
Look ring(Point p) { return {std::abs(length(p) - 0.75) - 0.22}; }
Look spiral(Point p) {
  // Two and a half turns of a band; the pitch is the distance from one turn to the next.
  constexpr double pitch = 0.42;
  const double r = length(p), turn = std::atan2(p.y, p.x) / (2 * kPi);
  const double across = r / pitch - turn - std::floor(r / pitch - turn) - 0.5;
  return {std::max((std::abs(across) - 0.25) * pitch, r - 1.05)};
}
Look square(Point p) { return {std::max(std::abs(p.x), std::abs(p.y)) - 0.75}; }
Look star(Point p) {
  static const auto corners = corners_at(10, {1.1, 0.45});
  return {polygon(p, corners)};
}
Look stripes(Point p) { return {length(p) - 1, int(std::floor(p.x * 2.6 + 100)) % 2 == 0}; }
Look triangle(Point p) {
  static const auto corners = corners_at(3, {1.05, 1.05});
  return {polygon(p, corners)};
}

struct Shape {
  const char* name;
  Look (*look)(Point);
};
constexpr Shape kShapes[] = {{"checkerboard", checkerboard},
                             {"circle", circle},
                             {"crescent", crescent},
                             {"cross", cross},
                             {"ring", ring},
                             {"spiral", spiral},
                             {"square", square},
                             {"star", star},
                             {"stripes", stripes},
                             {"triangle", triangle}};

class Canvas {
 public:
  explicit Canvas(int pixels) : side(pixels), colors(size_t(pixels) * size_t(pixels)) {}

  void blend(int x, int y, const Color& c, double share) {
    Color& at = colors[size_t(y) * size_t(side) + size_t(x)];
    for (size_t k = 0; k < 3; ++k) at[k] += (c[k] - at[k]) * share;
  }
  // Paints `color` where distance(x, y), in pixels, is negative, with a soft edge of one pixel.
  template <class Distance>
  void paint(const Color& color, Distance distance) {
    for (int y = 0; y < side; ++y)
      for (int x = 0; x < side; ++x)
        if (const double d = distance(Point{x + 0.5, y + 0.5}); d < 0.5)
          blend(x, y, color, std::clamp(0.5 - d, 0.0, 1.0));
  }

  int side;
  std::vector<Color> colors;
};

// Four corner colours near `base`, blended, with two waves over them.
void paint_background(Canvas& canvas, const Color& base, Chance& chance) {
  std::array<Color, 4> corner;
  for (Color& c : corner)
    for (size_t k = 0; k < 3; ++k) c[k] = base[k] + chance.uniform(-30, 30);
  struct Wave {
    double x, y, phase;
    Color height;
  };
  std::array<Wave, 2> waves;
  for (Wave& w : waves) {
    const double angle = chance.uniform(0, 2 * kPi), cycles = chance.uniform(1, 7);
    w = {2 * kPi * cycles * std::cos(angle),
         2 * kPi * cycles * std::sin(angle),
         chance.uniform(0, 2 * kPi),
         {}};
    for (double& h : w.height) h = chance.uniform(-10, 10);
  }
  for (int y = 0; y < canvas.side; ++y)
    for (int x = 0; x < canvas.side; ++x) {
      const double u = (x + 0.5) / canvas.side, v = (y + 0.5) / canvas.side;
      Color c;
      for (size_t k = 0; k < 3; ++k) {
        c[k] = (corner[0][k] * (1 - u) + corner[1][k] * u) * (1 - v) +
               (corner[2][k] * (1 - u) + corner[3][k] * u) * v;
        for (const Wave& w : waves) c[k] += w.height[k] * std::sin(w.x * u + w.y * v + w.phase);
      }
      canvas.blend(x, y, c, 1);
    }
}

// Small blobs and thin lines, so that the shape is not the only thing with an edge.
void paint_clutter(Canvas& canvas, int count, Chance& chance) {
  const double side = canvas.side, unit = side / 64;
  for (int i = 0; i < count; ++i) {
    const Color color = chance.color();
    const Point a{chance.uniform(0, side), chance.uniform(0, side)};
    if (chance.uniform(0, 1) < 0.5) {
      const double r = chance.uniform(1, 3.5) * unit;
      canvas.paint(color, [&](Point p) { return length({p.x - a.x, p.y - a.y}) - r; });
    } else {
      const double angle = chance.uniform(0, 2 * kPi), l = chance.uniform(8, 30) * unit,
                   half = chance.uniform(0.4, 1) * unit;
      const Point e{l * std::cos(angle), l * std::sin(angle)};
      canvas.paint(color, [&](Point p) {
        const Point v{p.x - a.x, p.y - a.y};
        const double t = std::clamp((v.x * e.x + v.y * e.y) / (l * l), 0.0, 1.0);
        return length({v.x - t * e.x, v.y - t * e.y}) - half;
      });
    }
  }
}

void paint_shape(Canvas& canvas, const Shape& shape, const Color& background, Chance& chance) {
  const Color first = chance.color_unlike(background), second = chance.color_unlike(first);
  const double side = canvas.side, radius = chance.uniform(0.3, 0.45) * side,
               turn = chance.uniform(0, 2 * kPi);
  const Point center{chance.uniform(radius, side - radius), chance.uniform(radius, side - radius)};
  const double c = std::cos(turn) / radius, s = std::sin(turn) / radius;
  const double mirror = chance.uniform(0, 1) < 0.5 ? 1 : -1;
  const auto look = [&](Point p) {
    const Point v{p.x - center.x, p.y - center.y};
    return shape.look({c * v.x + s * v.y, mirror * (c * v.y - s * v.x)});
  };
  canvas.paint(first, [&](Point p) { return look(p).distance * radius; });
  canvas.paint(second, [&](Point p) {
    const Look l = look(p);
    return l.second ? l.distance * radius : 1;
  });
}

}  // namespace

std::vector<std::string> shape_names() {
  std::vector<std::string> names;
  for (const Shape& s : kShapes) names.push_back(s.name);
  return names;
}

Image draw_shape(int shape, int pixels, uint64_t seed, uint64_t stream) {
  Chance chance(seed, stream);
  Canvas canvas(pixels);
  const Color background = chance.color();
  paint_background(canvas, background, chance);
  paint_clutter(canvas, chance.integer(2, 5), chance);
  paint_shape(canvas, kShapes[shape], background, chance);
  paint_clutter(canvas, chance.integer(0, 1), chance);

  const double grain = chance.uniform(2, 10);
  Image image(pixels, pixels);
  for (size_t i = 0; i < canvas.colors.size(); ++i)
    for (size_t k = 0; k < 3; ++k)
      image.pixels[3 * i + k] =
          uint8_t(std::clamp(canvas.colors[i][k] + chance.uniform(-grain, grain) + 0.5, 0.0, 255.0));
  return image;
}

}  // namespace weft::data
