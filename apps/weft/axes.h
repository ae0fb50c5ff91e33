// Axes of a drawing: what part of the plane a field of the sheet shows, and the numbers beside it.
#pragma once

#include <cstdint>
#include <vector>

#include "weft/apps/weft/drawing.h"

namespace weft::app {

/// Colours of text, large and small, and of the lines behind a curve.
constexpr uint32_t kInk = 0x222222, kGrey = 0x777777, kGrid = 0xe4e4e4, kAxis = 0x9a9a9a;

/// A rectangle of the sheet and what part of the plane it shows.
struct Field {
  double left, top, width, height;
  double x_low, x_high, y_low, y_high;
  bool log_x = false;  ///< powers of ten of x have equal widths

  double right() const { return left + width; }
  double bottom() const { return top + height; }
  double x(double v) const;
  double y(double v) const { return top + height * (y_high - v) / (y_high - y_low); }
};

/// Multiples of 1, 2 or 5 times a power of ten in [low, high], with `most` steps between them at most.
std::vector<double> ticks(double low, double high, int most);

/// These numbers below a field, in letters of `size`, and unless `lines` is false a line up through the field
/// for each, darker at 0.
void draw_x_ticks(Drawing& d, const Field& f, const std::vector<double>& at, double size, bool lines = true);
/// The same to the left of it.
void draw_y_ticks(Drawing& d, const Field& f, const std::vector<double>& at, double size, bool lines = true);
/// The four sides of a field.
void draw_frame(Drawing& d, const Field& f);
/// Those where its numbers are.
void draw_corner(Drawing& d, const Field& f);

}  // namespace weft::app
