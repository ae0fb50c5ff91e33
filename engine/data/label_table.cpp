// Labels from a CSV table, for training on labels with known noise.
#include <algorithm>
#include <filesystem>
#include <unordered_map>

#include "weft/engine/data/dataset.h"
#include "weft/engine/error.h"

namespace weft::data {

namespace {

// The fields of one line. A field in double quotes may hold commas, and "" for a quote.
std::vector<std::string> fields_of(const std::string& line) {
  std::vector<std::string> fields(1);
  bool quoted = false;
  for (size_t i = 0; i < line.size(); ++i) {
    const char c = line[i];
    if (c == '"' && quoted && i + 1 < line.size() && line[i + 1] == '"')
      fields.back() += line[++i];
    else if (c == '"')
      quoted = !quoted;
    else if (c == ',' && !quoted)
      fields.emplace_back();
    else
      fields.back() += c;
  }
  return fields;
}

// The lines, without line ends (LF or CRLF) and byte order mark.
std::vector<std::string> lines_of(const std::vector<uint8_t>& text) {
  std::vector<std::string> lines(1);
  size_t i = text.size() >= 3 && text[0] == 0xef && text[1] == 0xbb && text[2] == 0xbf ? 3 : 0;
  for (; i < text.size(); ++i)
    if (text[i] == '\n')
      lines.emplace_back();
    else if (text[i] != '\r')
      lines.back() += char(text[i]);
  return lines;
}

size_t column_of(const std::vector<std::string>& header, const std::string& name, const std::string& csv) {
  const auto at = std::find(header.begin(), header.end(), name);
  check(at != header.end(), "noisy labels: ", csv, " has no column '", name, "', its columns are ",
        joined(header));
  return size_t(at - header.begin());
}

}  // namespace

int64_t ImageDataset::use_labels(const std::string& csv_and_column) {
  const size_t colon = csv_and_column.rfind(':');
  check(colon != std::string::npos && colon > 0 && colon + 1 < csv_and_column.size(), "noisy labels: '",
        csv_and_column, "' is not FILE:COLUMN, as in noisy_imagewoof.csv:noisy_labels_25");
  const std::string csv = csv_and_column.substr(0, colon), column = csv_and_column.substr(colon + 1);

  const auto inside =
      std::find_if(tables_.begin(), tables_.end(), [&](const auto& t) { return t.path == csv; });
  check(inside != tables_.end() || std::filesystem::is_regular_file(csv), "noisy labels: ", csv,
        " is neither a file nor at the root of ", source_);
  const FileEntry file = inside != tables_.end() ? *inside : FileEntry{csv, nullptr, csv};
  const auto lines = lines_of(*file.load());
  const auto header = fields_of(lines[0]);
  const size_t path_at = column_of(header, "path", csv), label_at = column_of(header, column, csv);

  std::unordered_map<std::string, size_t> index;
  for (size_t i = 0; i < samples_.size(); ++i) index[samples_[i].file.path] = i;
  std::vector<int64_t> labels(samples_.size(), -1);
  for (size_t n = 1; n < lines.size(); ++n) {
    if (lines[n].empty()) continue;
    const auto fields = fields_of(lines[n]);
    check(fields.size() == header.size(), "noisy labels: ", csv, " line ", n + 1, " has ", fields.size(),
          " fields, its header ", header.size());
    if (!fields[path_at].starts_with(split_ + "/")) continue;
    const auto sample = index.find(fields[path_at]);
    check(sample != index.end(), "noisy labels: ", csv, " line ", n + 1, " names ", fields[path_at],
          ", which is not in ", source_, ": is this the table of another data set?");
    const auto c = std::find(classes_.begin(), classes_.end(), fields[label_at]);
    check(c != classes_.end(), "noisy labels: ", csv, " line ", n + 1, " has class '", fields[label_at],
          "' in column ", column, ", which is no class of the data set");
    labels[sample->second] = c - classes_.begin();
  }
  int64_t changed = 0;
  for (size_t i = 0; i < labels.size(); ++i)
    check(labels[i] >= 0, "noisy labels: ", csv, " has no row for ", samples_[i].file.path);
  for (size_t i = 0; i < labels.size(); ++i) {
    changed += labels[i] != samples_[i].label;
    samples_[i].label = labels[i];
  }
  return changed;
}

}  // namespace weft::data
