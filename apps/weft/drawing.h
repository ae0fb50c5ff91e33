// Small drawings: lines and text on a white sheet, as SVG or PNG.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace weft::app {

struct Point {
  double x, y;  ///< in units of a pixel, y downwards
};

enum class Anchor { start, middle, end };

/// What a sheet holds, drawn in the order in which it was added. Colours are 0xrrggbb.
class Drawing {
 public:
  Drawing(double width, double height) : width_(width), height_(height) {}

  void line(std::vector<Point> points, uint32_t colour, double width);
  /// `at` is on the baseline; `size` is the height of the font. Letters without accents, digits and
  /// (+-.,'=/_).
  void text(Point at, std::string text, uint32_t colour, double size, Anchor anchor = Anchor::start);

  std::string svg() const;
  /// Anti-aliased, `scale` pixels a unit; text in lines of its own, in small letters.
  std::string png(int scale = 2) const;

  /// svg() or png(), as the ending says; usage error for another one.
  std::string encode(const std::string& path) const;
  /// Throws the usage error of encode().
  static void require_known_ending(const std::string& path);

 private:
  struct Line {
    std::vector<Point> points;
    uint32_t colour;
    double width;
  };
  struct Text {
    Point at;
    std::string text;
    uint32_t colour;
    double size;
    Anchor anchor;
  };
  double width_, height_;
  std::vector<Line> lines_;
  std::vector<Text> texts_;
};

/// Lines of a text in the stroke font, its baseline beginning at `at`.
std::vector<std::vector<Point>> stroke_text(Point at, const std::string& text, double size);
/// Width of it.
double stroke_text_width(const std::string& text, double size);

}  // namespace weft::app
