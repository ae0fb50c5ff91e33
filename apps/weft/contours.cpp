#include "weft/apps/weft/contours.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <utility>

#include "weft/apps/weft/axes.h"

namespace weft::app {
namespace {

/// An edge between two points of the grid, by its lower left point: along the row, or (true) up.
using Edge = std::pair<int, bool>;

/// Where the level crosses an edge.
Point crossing(const Grid& g, Edge edge, double level) {
  const int row = edge.first / g.columns, column = edge.first % g.columns;
  const double a = g.at(row, column), b = edge.second ? g.at(row + 1, column) : g.at(row, column + 1);
  const double part = (level - a) / (b - a);
  return edge.second ? Point{double(column), row + part} : Point{column + part, double(row)};
}

/// For each edge that is crossed the edges that lines lead to from it: one in each of its two cells.
using Links = std::multimap<Edge, Edge>;

void link_cell(const Grid& g, int row, int column, double level, Links& links) {
  const std::array<double, 4> v = {g.at(row, column), g.at(row, column + 1), g.at(row + 1, column + 1),
                                   g.at(row + 1, column)};
  const auto above = [&](int i) { return v[size_t(i % 4)] >= level; };
  if (!std::all_of(v.begin(), v.end(), [](double x) { return std::isfinite(x); })) return;
  const int at = row * g.columns + column;
  // Edge i lies between corners i and i + 1, counted round the cell.
  const std::array<Edge, 4> edges = {{{at, false}, {at + 1, true}, {at + g.columns, false}, {at, true}}};
  std::vector<int> crossed;
  for (int i = 0; i < 4; ++i)
    if (above(i) != above(i + 1)) crossed.push_back(i);
  // Of a saddle, lines cut off the corners 1 and 3 (edges 0 1, 2 3) or the corners 0 and 2 (edges 3 0, 1 2).
  if (crossed.size() == 4 && ((v[0] + v[1] + v[2] + v[3]) / 4 >= level) != above(0)) crossed = {3, 0, 1, 2};
  for (size_t i = 0; i + 1 < crossed.size(); i += 2) {
    const Edge a = edges[size_t(crossed[i])], b = edges[size_t(crossed[i + 1])];
    links.emplace(a, b);
    links.emplace(b, a);
  }
}

/// The edges of one line from `start` on; its links are used up.
std::vector<Edge> follow(Links& links, Edge start) {
  std::vector<Edge> line = {start};
  for (auto next = links.find(start); next != links.end(); next = links.find(line.back())) {
    const Edge from = line.back(), to = next->second;
    links.erase(next);
    const auto [begin, end] = links.equal_range(to);
    links.erase(std::find_if(begin, end, [&](const auto& link) { return link.second == from; }));
    line.push_back(to);
  }
  return line;
}

/// From dark blue over green to yellow, which most people can tell apart; lightness rises all the way.
uint32_t colour_of(double part) {
  constexpr std::array<std::array<double, 3>, 4> stops = {
      {{0x3b, 0x28, 0x7c}, {0x2a, 0x78, 0x8e}, {0x43, 0xa8, 0x6c}, {0xd8, 0xb0, 0x10}}};
  const double at = std::clamp(part, 0.0, 1.0) * 3;
  const size_t i = std::min<size_t>(size_t(at), 2);
  uint32_t colour = 0;
  for (size_t c = 0; c < 3; ++c)
    colour =
        colour << 8 | uint32_t(std::lround(stops[i][c] + (stops[i + 1][c] - stops[i][c]) * (at - double(i))));
  return colour;
}

}  // namespace

std::vector<std::vector<Point>> contour_lines(const Grid& grid, double level) {
  Links links;
  for (int row = 0; row + 1 < grid.rows; ++row)
    for (int column = 0; column + 1 < grid.columns; ++column) link_cell(grid, row, column, level, links);
  std::vector<std::vector<Point>> lines;
  const auto take = [&](Edge start) {
    std::vector<Point> points;
    for (const Edge& edge : follow(links, start)) points.push_back(crossing(grid, edge, level));
    lines.push_back(std::move(points));
  };
  // First those with ends, from an end; what is left is closed.
  std::vector<Edge> ends;
  for (auto at = links.begin(); at != links.end(); at = links.upper_bound(at->first))
    if (links.count(at->first) == 1) ends.push_back(at->first);
  for (const Edge& end : ends)
    if (links.contains(end)) take(end);
  while (!links.empty()) take(links.begin()->first);
  return lines;
}

Drawing plot_contours(const std::vector<ContourField>& fields, double low, double high) {
  constexpr double kSide = 250, kGap = 52, kTop = 34;
  const int count = int(fields.size());
  const int columns = std::max(1, std::min(count, count <= 4 ? 2 : 4)),
            rows = (count + columns - 1) / columns;
  Drawing d(columns * (kSide + kGap) + 12, rows * (kSide + kGap) + 12);
  for (int i = 0; i < count; ++i) {
    const ContourField& c = fields[size_t(i)];
    const double left = i % columns * (kSide + kGap) + 40, top = i / columns * (kSide + kGap) + kTop;
    const Field f{left, top, kSide, kSide, low, high, low, high};
    const Field grid{left, top, kSide, kSide, 0, double(c.grid.columns - 1), 0, double(c.grid.rows - 1)};
    for (size_t k = 0; k < c.levels.size(); ++k)
      for (const std::vector<Point>& line : contour_lines(c.grid, c.levels[k])) {
        std::vector<Point> placed;
        for (const Point& p : line) placed.push_back({grid.x(p.x), grid.y(p.y)});
        d.line(std::move(placed),
               colour_of(c.levels.size() > 1 ? double(k) / double(c.levels.size() - 1) : 0), 1.2);
      }
    draw_frame(d, f);
    draw_x_ticks(d, f, ticks(low, high, 5), 9, false);
    draw_y_ticks(d, f, ticks(low, high, 5), 9, false);
    d.text({left, top - 16}, c.title, kInk, 13);
    d.text({left, top - 4}, c.remark, kGrey, 9);
  }
  return d;
}

}  // namespace weft::app
