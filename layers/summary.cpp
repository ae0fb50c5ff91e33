#include "weft/layers/summary.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <map>

#include "weft/engine/eval_guard.h"
#include "weft/engine/tape.h"
#include "weft/layers/batch_norm.h"

namespace weft {
namespace {

bool is_within(std::string_view scope, std::string_view path) {
  if (path.empty()) return true;
  return scope.substr(0, path.size()) == path && (scope.size() == path.size() || scope[path.size()] == '.');
}

/// 1234567 -> "1,234,567"
std::string grouped(int64_t n) {
  std::string s = std::to_string(n);
  for (int64_t i = int64_t(s.size()) - 3; i > 0; i -= 3) s.insert(size_t(i), ",");
  return s;
}

/// 4096 -> "4.10 k", 783684608 -> "783.68 M"
std::string rounded(int64_t n) {
  char text[32];
  const bool small = n < 1000000;
  std::snprintf(text, sizeof text, "%.2f %c", double(n) * (small ? 1e-3 : 1e-6), small ? 'k' : 'M');
  return text;
}

}  // namespace

ModelSummary summarize(Module& model, const Shape& input) {
  DType dtype = DType::f32;
  Device device = Device::cpu;
  for (const Parameter& p : model.parameters()) dtype = p.tensor.dtype(), device = p.tensor.device();
  const EvalGuard guard(model);
  Tape tape;
  model.forward(Tensor::zeros(input, dtype, device));  // not model(...): paths start below the model itself

  ModelSummary summary;
  summary.input = input;
  for (const Parameter& b : model.buffers()) summary.buffers += b.tensor.numel();
  std::map<const Module*, std::string> fused;  // activations that run within their batch norm's op: its path
  model.visit([&](const std::string& path, Module& m) {
    if (const auto* bn = dynamic_cast<const BatchNorm2d*>(&m); bn && bn->act) fused[&*bn->act] = path;
    SummaryRow row;
    row.path = path;
    row.description = m.description();
    row.depth = path.empty() ? 0 : 1 + int(std::count(path.begin(), path.end(), '.'));
    row.parameters = m.num_parameters();
    for (const TapeEntry& e : tape.entries()) {
      if (!is_within(e.scope, fused.contains(&m) ? fused[&m] : path)) continue;
      row.ran = true;
      row.multiply_adds += e.multiply_adds;
      if (!e.outputs.empty()) row.output = e.outputs.front().shape;
    }
    summary.rows.push_back(std::move(row));
  });
  return summary;
}

std::string ModelSummary::to_string(int max_depth) const {
  using Line = std::array<std::string, 5>;
  std::vector<Line> lines{{"module", "layer", "output", "parameters", "multiply-adds"}};
  for (const SummaryRow& r : rows) {
    if (max_depth >= 0 && r.depth > max_depth) continue;
    const std::string name = r.path.substr(r.path.rfind('.') + 1);  // npos + 1 is 0
    lines.push_back({std::string(size_t(2 * r.depth), ' ') + (r.path.empty() ? "model" : name), r.description,
                     r.ran ? r.output.to_string() : "not run", r.parameters ? grouped(r.parameters) : "",
                     r.multiply_adds ? rounded(r.multiply_adds) : ""});
  }
  std::array<size_t, 5> width{};
  for (const Line& line : lines)
    for (size_t c = 0; c < line.size(); ++c) width[c] = std::max(width[c], line[c].size());

  std::string text;
  for (const Line& line : lines) {
    for (size_t c = 0; c < line.size(); ++c) {
      const std::string pad(width[c] - line[c].size(), ' ');
      const bool number = c >= 3;  // numbers to the right, text to the left
      text += (c ? "  " : "") + (number ? pad + line[c] : line[c] + pad);
    }
    text.erase(text.find_last_not_of(' ') + 1);
    text += '\n';
  }
  return text + concat("input ", input, ": ", grouped(parameters()), " parameters, ", grouped(buffers),
                       " values of other state, ", grouped(multiply_adds()), " multiply-adds\n");
}

std::string summary(Module& model, const Shape& input) { return summarize(model, input).to_string(); }

}  // namespace weft
