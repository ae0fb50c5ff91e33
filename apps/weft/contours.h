// Lines of equal value of a function on a grid, and pictures of them.
#pragma once

#include <string>
#include <vector>

#include "weft/apps/weft/drawing.h"

namespace weft::app {

/// Values at evenly spaced points, row by row.
struct Grid {
  int rows = 0, columns = 0;
  std::vector<double> values;
  double at(int row, int column) const { return values[size_t(row) * size_t(columns) + size_t(column)]; }
};

/// Where the values, taken as linear along the grid's lines, cross `level`: lines (closed ones end where they
/// begin) in units of grid steps, x by columns and y by rows. Cells with a value that is not finite are left
/// out. (Marching squares; a saddle is joined by the mean of its four values.)
std::vector<std::vector<Point>> contour_lines(const Grid& grid, double level);

/// A field of a sheet of contour pictures.
struct ContourField {
  std::string title, remark;
  Grid grid;                   ///< the first row is the lowest
  std::vector<double> levels;  ///< rising
};
/// One field for each, all over x_low <= x, y <= x_high; dark lines are low.
Drawing plot_contours(const std::vector<ContourField>& fields, double low, double high);

}  // namespace weft::app
