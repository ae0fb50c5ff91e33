#include "weft/apps/weft/drawing.h"

#include <fmt/core.h>

#include <utility>

#include "weft/apps/weft/command.h"

namespace weft::app {
namespace {

std::string escaped(const std::string& text) {
  std::string result;
  for (char c : text)
    result += c == '<' ? "&lt;" : c == '>' ? "&gt;" : c == '&' ? "&amp;" : std::string(1, c);
  return result;
}

}  // namespace

void Drawing::line(std::vector<Point> points, uint32_t colour, double width) {
  lines_.push_back({std::move(points), colour, width});
}

void Drawing::text(Point at, std::string text, uint32_t colour, double size, Anchor anchor) {
  texts_.push_back({at, std::move(text), colour, size, anchor});
}

std::string Drawing::svg() const {
  std::string out = fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{0}\" height=\"{1}\" viewBox=\"0 0 {0} {1}\">\n"
      "<rect width=\"{0}\" height=\"{1}\" fill=\"#ffffff\"/>\n"
      "<g fill=\"none\" stroke-linejoin=\"round\" stroke-linecap=\"round\">\n",
      width_, height_);
  for (const Line& line : lines_) {
    out += fmt::format("<polyline stroke=\"#{:06x}\" stroke-width=\"{}\" points=\"", line.colour, line.width);
    for (const Point& p : line.points) out += fmt::format("{:.1f},{:.1f} ", p.x, p.y);
    out += "\"/>\n";
  }
  out += "</g>\n<g font-family=\"Helvetica, Arial, sans-serif\">\n";
  for (const Text& t : texts_)
    out += fmt::format(
        "<text x=\"{:.1f}\" y=\"{:.1f}\" fill=\"#{:06x}\" font-size=\"{}\" text-anchor=\"{}\">{}</text>\n",
        t.at.x, t.at.y, t.colour, t.size,
        t.anchor == Anchor::start    ? "start"
        : t.anchor == Anchor::middle ? "middle"
                                     : "end",
        escaped(t.text));
  return out + "</g>\n</svg>\n";
}

void Drawing::require_known_ending(const std::string& path) {
  if (path.size() <= 4 || !(path.ends_with(".svg") || path.ends_with(".png")))
    usage_error("cannot draw into ", path, ": the name must end in .svg or .png");
}

std::string Drawing::encode(const std::string& path) const {
  require_known_ending(path);
  return path.ends_with(".png") ? png() : svg();
}

}  // namespace weft::app
