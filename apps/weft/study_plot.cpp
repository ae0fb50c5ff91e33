// The picture of a study.
#include <fmt/core.h>

#include <algorithm>
#include <cctype>
#include <cmath>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <optional>

#include "weft/apps/weft/command.h"
#include "weft/apps/weft/plot.h"
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
  constexpr double left = 230, right = kSheetWidth - 24, top = 44, row = 26;
  const double bottom = top + row * double(results.size());
  Drawing d(kSheetWidth, bottom + 44);
  const AccuracyRange range(results);
  const auto x = [&](double v) { return left + (right - left) * (v - range.low) / (range.high - range.low); };
  for (double v : ticks(range.low, range.high, 8)) {
    d.line({{x(v), top}, {x(v), bottom}}, kGrid, 1);
    d.text({x(v), bottom + 15}, fmt::format("{:g}", v), kGrey, 10, Anchor::middle);
  }
  d.text({left, 24}, study.title, kInk, 13);
  d.text({(left + right) / 2, bottom + 34}, "validation accuracy in percent, mean and 95 percent interval",
         kGrey, 11, Anchor::middle);
  for (size_t i = 0; i < results.size(); ++i) {
    const double y = top + row * (double(i) + 0.5);
    d.text({left - 12, y + 4}, cell_text(study.cells[i], study.axes, nullptr), kInk, 11, Anchor::end);
    const CellResult& r = results[i];
    if (r.accuracy.n == 0) continue;
    const uint32_t colour = kPalette[i == r.baseline ? 1 : 0];
    d.line({{x(AccuracyRange::lower(r)), y}, {x(AccuracyRange::upper(r)), y}}, colour, 2);
    draw_dot(d, {x(100 * r.accuracy.mean), y}, colour);
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
  const double left = 56, right = kSheetWidth - 24, top = 44 + legend, bottom = top + 340;
  Drawing d(kSheetWidth, bottom + 44);

  std::vector<double> values;
  for (const json& v : axis.values) values.push_back(*as_number(v));
  const auto [least, most] = std::minmax_element(values.begin(), values.end());
  // Rates and the like that span a power of ten or more.
  const bool logarithmic = *least > 0 && *most / *least > 9.99;
  const auto place = [&](double v) { return logarithmic ? std::log10(v) : v; };
  const double low = place(*least), high = place(*most), inset = 28;
  const auto x = [&](double v) {
    return left + inset + (right - left - 2 * inset) * (place(v) - low) / (high - low);
  };
  const AccuracyRange range(results);
  const auto y = [&](double v) {
    return bottom - (bottom - top) * (v - range.low) / (range.high - range.low);
  };

  for (double v : ticks(range.low, range.high, 8)) {
    d.line({{left, y(v)}, {right, y(v)}}, kGrid, 1);
    d.text({left - 7, y(v) + 4}, fmt::format("{:g}", v), kGrey, 10, Anchor::end);
  }
  for (double v : values) d.text({x(v), bottom + 15}, fmt::format("{:g}", v), kGrey, 10, Anchor::middle);
  d.line({{left, top}, {left, bottom}, {right, bottom}}, kAxis, 1);
  d.text({left, 24}, study.title, kInk, 13);
  d.text({(left + right) / 2, bottom + 34},
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
      const double at = x(*as_number(study.cells[i].settings.at(axis.key))) + aside;
      d.line({{at, y(AccuracyRange::lower(r))}, {at, y(AccuracyRange::upper(r))}}, colour, 1.4);
      means.push_back({at, y(100 * r.accuracy.mean)});
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
