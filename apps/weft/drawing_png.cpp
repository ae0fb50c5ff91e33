// A Drawing as pixels. Lines are drawn by the distance of each pixel to them, letters as lines.
#include <algorithm>
#include <array>
#include <cctype>
#include <cmath>
#include <string_view>

#include "weft/apps/weft/drawing.h"
#include "weft/engine/data/image.h"

namespace weft::app {
namespace {

/// Strokes of each character on a grid of columns 0 to 4 and rows 0 to 8: two digits a point, a space between
/// strokes. The baseline is row 2, small letters end at row 6, tall ones and digits at 8, dots at 9.
std::string_view strokes_of(char c) {
  constexpr std::array<std::string_view, 26> kLetters = {"4246 4536160503123243",
                                                         "0802 0516364543321203",
                                                         "4536160503123243",
                                                         "4842 4536160503123243",
                                                         "04444536160503123243",
                                                         "38281712 0636",
                                                         "4641301001 4536160503123243",
                                                         "0802 0516364542",
                                                         "2622 2829",
                                                         "26211000 2829",
                                                         "0802 4603 1442",
                                                         "18132232",
                                                         "0602 05162522 25364542",
                                                         "0602 0516364542",
                                                         "163645433212030516",
                                                         "0600 0516364543321203",
                                                         "4640 4536160503123243",
                                                         "0602 041636",
                                                         "45361605143443321203",
                                                         "18132232 0636",
                                                         "0603123243 4642",
                                                         "062246",
                                                         "0612253246",
                                                         "0642 0246",
                                                         "0623 4610",
                                                         "06460242"};
  constexpr std::array<std::string_view, 10> kDigits = {
      "183847433212030718",          "072822 1232", "07183847460242",
      "07183847463515 354443321203", "32380444",    "480805354443321203",
      "38180703123243443505",        "084812",      "183847463515060718 150403123243443515",
      "12324347381807061545"};
  if (c >= '0' && c <= '9') return kDigits[size_t(c - '0')];
  const char small = char(std::tolower(static_cast<unsigned char>(c)));
  if (small >= 'a' && small <= 'z') return kLetters[size_t(small - 'a')];
  switch (c) {
    case '(':
      return "38262432";
    case ')':
      return "18262412";
    case '+':
      return "0545 2327";
    case '-':
      return "0545";
    case '.':
      return "2223";
    case ',':
      return "2211";
    case '\'':
      return "2826";
    case '=':
      return "0646 0444";
    case '/':
      return "0248";
    case '_':
      return "0141";
    default:
      return "";
  }
}

constexpr double kRows = 9;  // of the grid, for the font's height

/// The columns that a character takes; 0 to 1 for a space.
struct Columns {
  double first, last;
};
Columns columns_of(std::string_view strokes) {
  if (strokes.empty()) return {0, 1};
  Columns c{4, 0};
  for (size_t i = 0; i < strokes.size(); i += strokes[i] == ' ' ? 1 : 2)
    if (strokes[i] != ' ')
      c = {std::min(c.first, double(strokes[i] - '0')), std::max(c.last, double(strokes[i] - '0'))};
  return c;
}
constexpr double kGap = 2;  // columns between two characters

struct Picture {
  int width, height;
  std::vector<float> rgb;

  /// A line of half this width; within it, each pixel is covered once.
  void line(const std::vector<Point>& points, uint32_t colour, double half) {
    if (points.empty()) return;
    double left = points[0].x, right = left, top = points[0].y, bottom = top;
    for (const Point& p : points) {
      left = std::min(left, p.x), right = std::max(right, p.x);
      top = std::min(top, p.y), bottom = std::max(bottom, p.y);
    }
    const auto within = [](double v, int end) { return int(std::clamp(v, 0.0, double(end))); };
    const int x0 = within(left - half - 1, width), x1 = within(right + half + 2, width);
    const int y0 = within(top - half - 1, height), y1 = within(bottom + half + 2, height);
    if (x0 >= x1 || y0 >= y1) return;
    std::vector<float> cover(size_t(x1 - x0) * size_t(y1 - y0), 0.0f);
    for (size_t i = 0; i == 0 || i + 1 < points.size(); ++i) {
      const Point a = points[i], b = points[std::min(i + 1, points.size() - 1)];
      const double dx = b.x - a.x, dy = b.y - a.y, square = dx * dx + dy * dy;
      const int sx0 = std::max(x0, int(std::min(a.x, b.x) - half - 1)),
                sx1 = std::min(x1, int(std::max(a.x, b.x) + half + 2));
      const int sy0 = std::max(y0, int(std::min(a.y, b.y) - half - 1)),
                sy1 = std::min(y1, int(std::max(a.y, b.y) + half + 2));
      for (int y = sy0; y < sy1; ++y)
        for (int x = sx0; x < sx1; ++x) {
          const double px = x + 0.5 - a.x, py = y + 0.5 - a.y;
          const double t = square > 0 ? std::clamp((px * dx + py * dy) / square, 0.0, 1.0) : 0;
          const double distance = std::hypot(px - t * dx, py - t * dy);
          float& c = cover[size_t(y - y0) * size_t(x1 - x0) + size_t(x - x0)];
          c = std::max(c, float(std::clamp(half + 0.5 - distance, 0.0, 1.0)));
        }
    }
    for (int y = y0; y < y1; ++y)
      for (int x = x0; x < x1; ++x) {
        const float c = cover[size_t(y - y0) * size_t(x1 - x0) + size_t(x - x0)];
        float* pixel = &rgb[(size_t(y) * size_t(width) + size_t(x)) * 3];
        for (int k = 0; k < 3; ++k) pixel[k] += c * (float(colour >> (16 - 8 * k) & 255) / 255 - pixel[k]);
      }
  }
};

std::vector<Point> scaled(std::vector<Point> points, double scale) {
  for (Point& p : points) p = {p.x * scale, p.y * scale};
  return points;
}

}  // namespace

std::vector<std::vector<Point>> stroke_text(Point at, const std::string& text, double size) {
  const double unit = size / kRows;
  std::vector<std::vector<Point>> lines;
  for (char c : text) {
    std::vector<Point> line;
    const std::string_view strokes = strokes_of(c);
    const Columns columns = columns_of(strokes);
    for (size_t i = 0; i < strokes.size(); i += strokes[i] == ' ' ? 1 : 2) {
      if (strokes[i] == ' ')
        lines.push_back(std::move(line)), line = {};
      else
        line.push_back(
            {at.x + (strokes[i] - '0' - columns.first) * unit, at.y - (strokes[i + 1] - '2') * unit});
    }
    if (!line.empty()) lines.push_back(std::move(line));
    at.x += (columns.last - columns.first + kGap) * unit;
  }
  return lines;
}

double stroke_text_width(const std::string& text, double size) {
  double columns = -kGap;
  for (char c : text) {
    const Columns of_one = columns_of(strokes_of(c));
    columns += of_one.last - of_one.first + kGap;
  }
  return std::max(columns, 0.0) * size / kRows;
}

std::string Drawing::png(int scale) const {
  Picture picture{int(std::ceil(width_)) * scale, int(std::ceil(height_)) * scale, {}};
  picture.rgb.assign(size_t(picture.width) * size_t(picture.height) * 3, 1.0f);
  for (const Line& line : lines_)
    picture.line(scaled(line.points, scale), line.colour, line.width * scale / 2);
  for (const Text& t : texts_) {
    const double share = t.anchor == Anchor::start ? 0 : t.anchor == Anchor::middle ? 0.5 : 1;
    const Point at{t.at.x - share * stroke_text_width(t.text, t.size), t.at.y};
    for (const std::vector<Point>& line : stroke_text(at, t.text, t.size))
      picture.line(scaled(line, scale), t.colour, t.size * scale / 24);
  }
  data::Image image(picture.height, picture.width);
  for (size_t i = 0; i < image.pixels.size(); ++i)
    image.pixels[i] = uint8_t(std::clamp(picture.rgb[i], 0.0f, 1.0f) * 255 + 0.5f);
  const std::vector<uint8_t> file = data::encode_png(image);
  return {file.begin(), file.end()};
}

}  // namespace weft::app
