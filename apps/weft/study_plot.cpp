// The picture of a study.
#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <optional>

#include "weft/apps/weft/axes.h"
#include "weft/apps/weft/command.h"
#include "weft/apps/weft/study_report.h"

namespace weft::app {

using nlohmann::json;

namespace {

// Colours that most people can tell apart (Okabe and Ito 2008).
constexpr uint32_t kPalette[] = {0x0072b2, 0xd55e00, 0x009e73, 0xcc79a7, 0xe69f00, 0x56b4e9, 0x000000};

/// A number, or that at the end of a name; of the others nothing.
std::optional<double> as_number(const json& value) {
  if (value.is_number()) return value.get<double>();
  if (!value.is_string()) return std::nullopt;
  const std::string text = value;
  size_t at = text.size();
  while (at > 0 && std::isdigit((unsigned char)text[at - 1])) --at;
  return at == text.size() ? std::nullopt : std::optional(std::strtod(text.c_str() + at, nullptr));
}

/// All of a name but that number.
std::string family(const json& value) {
  if (!value.is_string()) return "";
  std::string text = value;
  while (!text.empty() && std::isdigit((unsigned char)text.back())) text.pop_back();
  return text;
}

/// Whether the axis is a scale: two numbers or more, of one family. (That set1 and set01 are the same number
/// is no scale either.)
bool is_scale(const StudyAxis& axis) {
  return axis.values.size() > 1 && as_number(axis.values[0]) != as_number(axis.values[1]) &&
         std::all_of(axis.values.begin(), axis.values.end(),
                     [&](const json& v) { return as_number(v) && family(v) == family(axis.values[0]); });
}

/// What the cells span on the axis of accuracies, in percent.
struct AccuracyRange {
  double low = 100, high = 0;

  explicit AccuracyRange(const std::vector<CellResult>& results) {
    for (const CellResult& r : results) {
      if (r.accuracy.n == 0) continue;
      low = std::min(low, lower(r)), high = std::max(high, upper(r));
    }
    if (low > high) low = 0, high = 100;
    const double margin = std::max(0.05 * (high - low), 0.5);
    low = std::max(0.0, low - margin), high = std::min(100.0, high + margin);
  }
  static double lower(const CellResult& r) {
    return std::max(0.0, 100 * (r.accuracy.mean - r.accuracy.half_width.value_or(0)));
  }
  static double upper(const CellResult& r) {
    return std::min(100.0, 100 * (r.accuracy.mean + r.accuracy.half_width.value_or(0)));
  }
};

void draw_dot(Drawing& d, Point at, uint32_t colour) { d.line({at, at}, colour, 7); }

/// "mish, lr 0.01", of all settings but one.
std::string cell_text(const StudyCell& cell, const std::vector<StudyAxis>& axes, const StudyAxis* without) {
  std::vector<std::string> texts;
  for (const StudyAxis& axis : axes) {
    if (&axis == without) continue;
    const json& value = cell.settings.at(axis.key);
    texts.push_back(value.is_string() ? value.get<std::string>() : axis.key + " " + value.dump());
  }
  return joined(texts);
}

constexpr double kSheetWidth = 760;

Drawing plot_rows(const Study& study, const std::vector<CellResult>& results) {
  constexpr double left = 230, width = kSheetWidth - 24 - left, row = 26;
  const double rows = double(results.size());
  const AccuracyRange range(results);
  const Field f{left, 44, width, row * rows, range.low, range.high, rows, 0};
  Drawing d(kSheetWidth, f.bottom() + 44);
  draw_x_ticks(d, f, ticks(range.low, range.high, 8), 10);
  d.text({left, 24}, study.title, kInk, 13);
  d.text({left + width / 2, f.bottom() + 34}, "validation accuracy in percent, mean and 95 percent interval",
         kGrey, 11, Anchor::middle);
  for (size_t i = 0; i < results.size(); ++i) {
    const double y = f.y(double(i) + 0.5);
    d.text({left - 12, y + 4}, cell_text(study.cells[i], study.axes, nullptr), kInk, 11, Anchor::end);
    const CellResult& r = results[i];
    if (r.accuracy.n == 0) continue;
    const uint32_t colour = kPalette[i == r.baseline ? 1 : 0];
    d.line({{f.x(AccuracyRange::lower(r)), y}, {f.x(AccuracyRange::upper(r)), y}}, colour, 2);
    draw_dot(d, {f.x(100 * r.accuracy.mean), y}, colour);
  }
  return d;
}

Drawing plot_scale(const Study& study, const std::vector<CellResult>& results, const StudyAxis& axis) {
  std::vector<std::string> lines;  // what tells one from the other
  for (const StudyCell& cell : study.cells)
    if (const std::string text = cell_text(cell, study.axes, &axis);
        std::find(lines.begin(), lines.end(), text) == lines.end())
      lines.push_back(text);
  const double legend = lines.size() > 1 ? 18 * double(lines.size()) : 0;
  constexpr double left = 56, width = kSheetWidth - 24 - left, inset = 28;

  std::vector<double> values;
  for (const json& v : axis.values) values.push_back(*as_number(v));
  const auto [least, most] = std::minmax_element(values.begin(), values.end());
  // Rates and the like that span a power of ten or more.
  const bool logarithmic = *least > 0 && *most / *least > 9.99;
  const AccuracyRange range(results);
  const Field whole{left, 44 + legend, width, 340, *least, *most, range.low, range.high, logarithmic};
  Field f = whole;  // of the points
  f.left += inset, f.width -= 2 * inset;
  Drawing d(kSheetWidth, f.bottom() + 44);
  draw_y_ticks(d, whole, ticks(range.low, range.high, 8), 10);
  draw_x_ticks(d, f, values, 10, false);
  draw_corner(d, whole);
  d.text({left, 24}, study.title, kInk, 13);
  d.text({left + width / 2, f.bottom() + 34},
         axis.key + " (x), validation accuracy in percent, mean and 95 percent interval (y)", kGrey, 11,
         Anchor::middle);
  for (size_t k = 0; k < lines.size(); ++k) {
    const uint32_t colour = kPalette[k % std::size(kPalette)];
    // Beside each other, so that intervals don't hide one another.
    const double aside = 5 * (double(k) - 0.5 * double(lines.size() - 1));
    std::vector<Point> means;
    for (size_t i = 0; i < results.size(); ++i) {
      const CellResult& r = results[i];
      if (r.accuracy.n == 0 || cell_text(study.cells[i], study.axes, &axis) != lines[k]) continue;
      const double at = f.x(*as_number(study.cells[i].settings.at(axis.key))) + aside;
      d.line({{at, f.y(AccuracyRange::lower(r))}, {at, f.y(AccuracyRange::upper(r))}}, colour, 1.4);
      means.push_back({at, f.y(100 * r.accuracy.mean)});
      draw_dot(d, means.back(), colour);
    }
    std::sort(means.begin(), means.end(), [](Point a, Point b) { return a.x < b.x; });
    if (means.size() > 1) d.line(std::move(means), colour, 1.8);
    if (lines.size() == 1) continue;
    const double at = 44 + 18 * double(k);
    d.line({{left, at - 4}, {left + 24, at - 4}}, colour, 2.4);
    d.text({left + 32, at}, lines[k], kInk, 12);
  }
  return d;
}

}  // namespace

Drawing plot_study(const Study& study, const std::vector<CellResult>& results) {
  const auto scale = std::find_if(study.axes.begin(), study.axes.end(), is_scale);
  return scale == study.axes.end() ? plot_rows(study, results) : plot_scale(study, results, *scale);
}

}  // namespace weft::app
