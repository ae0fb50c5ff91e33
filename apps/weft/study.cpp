#include "weft/apps/weft/study.h"

#include <algorithm>
#include <cctype>
#include <map>
#include <set>
#include <sstream>
#include <system_error>

#include "weft/apps/weft/command.h"
#include "weft/apps/weft/json_file.h"
#include "weft/apps/weft/version.h"
#include "weft/engine/file.h"
#include "weft/engine/whole_number.h"

namespace weft::app {

using nlohmann::json;
namespace fs = std::filesystem;

namespace {

constexpr int64_t kMostRuns = 10'000;  // of a study

/// A value as a part of a folder's name.
std::string name_part(const std::string& key, const json& value) {
  if (value.is_boolean()) return (value.get<bool>() ? "" : "no-") + key;
  if (!value.is_string()) return key + value.dump();
  std::string text = fs::path(value.get<std::string>()).filename().string();
  for (char& c : text)
    if (!std::isalnum((unsigned char)c) && c != '.' && c != '-' && c != '_') c = '_';
  if (text.empty() || text[0] == '.') text = "_" + text;
  return text.substr(0, 60);
}

StudyCell make_cell(const Study& study, const std::vector<size_t>& choice, const RunFlags& flags) {
  StudyCell cell{.name = {}, .settings = json::object(), .config = study.base};
  for (size_t i = 0; i < choice.size(); ++i) {
    const StudyAxis& axis = study.axes[i];
    const json& value = axis.values[choice[i]];
    cell.settings[axis.key] = value;
    cell.name += (i > 0 ? "_" : "") + name_part(axis.key, value);
  }
  from_json(cell.settings, "--vary", cell.config);
  cell.config.runs = 1;
  complete(cell.config, flags);
  return cell;
}

json to_json(const Study& study) {
  json axes = json::array(), runs = json::array();
  for (const StudyAxis& axis : study.axes) axes.push_back({{"key", axis.key}, {"values", axis.values}});
  for (const StudyRun& r : study.runs) {
    json row = {{"cell", study.cells[r.cell].name}, {"run", r.run}, {"seed", r.seed}};
    if (r.diverged)
      row["diverged"] = *r.diverged;
    else
      row.update({{"final_val_accuracy", r.final_accuracy},
                  {"best_val_accuracy", r.best_accuracy},
                  {"val_loss", r.loss},
                  {"seconds", r.seconds}});
    runs.push_back(row);
  }
  return {{"weft_version", kVersion},
          {"title", study.title},
          {"vary", axes},
          {"within", study.within},
          {"config", app::to_json(study.base)},
          {"pictures", study.pictures},
          {"runs", runs}};
}

StudyRun run_from_json(const json& row, const Study& study) {
  const std::string cell = row.at("cell");
  const auto found = std::find_if(study.cells.begin(), study.cells.end(),
                                  [&](const StudyCell& c) { return c.name == cell; });
  check(found != study.cells.end(), "a run of no cell");
  StudyRun r{.cell = size_t(found - study.cells.begin()),
             .run = whole_number<int64_t>(row.at("run"), "\"run\"", 1, study.base.runs),
             .seed = whole_number<uint64_t>(row.at("seed"), "\"seed\"")};
  for (const StudyRun& other : study.runs)
    check(other.cell != r.cell || other.run != r.run, "run ", r.run, " of ", cell, " is there twice");
  if (row.contains("diverged")) {
    r.diverged = row["diverged"].get<std::string>();
    return r;
  }
  row.at("final_val_accuracy").get_to(r.final_accuracy);
  row.at("best_val_accuracy").get_to(r.best_accuracy);
  row.at("val_loss").get_to(r.loss);
  row.at("seconds").get_to(r.seconds);
  for (double accuracy : {r.final_accuracy, r.best_accuracy})
    check(accuracy >= 0 && accuracy <= 1, "run ", r.run, " of ", cell, " has an accuracy of ", accuracy,
          ", expected 0 to 1");
  return r;
}

}  // namespace

StudyAxis parse_axis(const std::string& text) {
  const size_t equals = text.find('=');
  if (equals == std::string::npos || equals == 0 || equals + 1 == text.size())
    usage_error("--vary ", text, ": expected KEY=VALUE,VALUE,...");
  StudyAxis axis{.key = text.substr(0, equals), .values = {}};
  std::replace(axis.key.begin(), axis.key.end(), '-', '_');
  const std::string where = "--vary " + axis.key;
  for (const char* fixed : {"runs", "seed", "device", "exact", "deterministic", "tune"})
    if (axis.key == fixed)
      usage_error(where, ": ", flag_of(fixed), " holds for the whole study; give it as a flag of its own");
  std::istringstream values(text.substr(equals + 1) + ",");
  for (std::string value; std::getline(values, value, ',');) {
    if (value.empty()) usage_error("--vary ", text, ": a value is empty");
    TrainConfig config;
    set_setting(config, where, axis.key, value);
    anchor_paths(config);
    const json typed = app::to_json(config).at(axis.key);
    if (std::find(axis.values.begin(), axis.values.end(), typed) != axis.values.end())
      usage_error(where, ": the value ", value, " is there twice");
    axis.values.push_back(typed);
  }
  return axis;
}

void make_cells(Study& study, const RunFlags& flags) {
  if (study.base.runs < 1 || study.base.runs > kMostRuns)
    usage_error("--runs must be 1 to ", kMostRuns, ", got ", study.base.runs);
  std::set<std::string> keys;
  int64_t count = study.base.runs;
  for (const StudyAxis& axis : study.axes) {
    if (!keys.insert(axis.key).second) usage_error("--vary ", axis.key, " is there twice");
    count *= int64_t(axis.values.size());
    if (count > kMostRuns) usage_error("--vary: more than ", kMostRuns, " runs; vary less");
  }
  if (!study.within.empty() && !keys.contains(study.within))
    usage_error("--within ", study.within, ": it is not varied");
  std::set<std::string> names;
  std::map<std::string, int> last_number;  // of cells that would have one name
  std::vector<size_t> choice(study.axes.size());
  for (int64_t left = count / study.base.runs; left > 0; --left) {
    StudyCell cell = make_cell(study, choice, flags);
    for (const StudyCell& other : study.cells)
      if (other.config == cell.config)
        usage_error("--vary: ", other.name, " and ", cell.name, " are the same runs; leave one of them out");
    const std::string plain = cell.name;
    for (int& k = last_number[plain]; !names.insert(cell.name).second;)
      cell.name = plain + "-" + std::to_string(k = std::max(k + 1, 2));
    study.cells.push_back(std::move(cell));
    for (size_t i = choice.size(); i-- > 0;) {
      if (++choice[i] < study.axes[i].values.size()) break;
      choice[i] = 0;
    }
  }
}

fs::path study_around(const RunFolder& run) {
  std::error_code error;
  const fs::path folder = fs::weakly_canonical(run.path, error).parent_path().parent_path();
  return fs::exists(StudyFolder{folder}.study(), error) ? folder : fs::path();
}

std::vector<std::string> runs_in(const StudyFolder& folder) {
  std::vector<std::string> runs;
  std::error_code error;
  for (const fs::directory_entry& cell : fs::directory_iterator(folder.path, error)) {
    if (!cell.is_directory(error)) continue;
    for (const fs::directory_entry& run : fs::directory_iterator(cell.path(), error))
      if (fs::exists(RunFolder{run.path()}.model(), error)) runs.push_back(run.path().string());
  }
  std::sort(runs.begin(), runs.end());
  return runs;
}

void set_runs(Study& study, int64_t runs) {
  if (runs < 1 || runs > kMostRuns / int64_t(study.cells.size()))
    usage_error("--runs ", runs, ": of ", count_of(int64_t(study.cells.size()), "cell"),
                " these are more than ", kMostRuns, " runs");
  study.base.runs = runs;
}

void write_study(const StudyFolder& folder, const Study& study) {
  write_file(folder.study(), to_json(study).dump(2) + "\n");
}

Study read_study(const StudyFolder& folder, const RunFlags& flags) {
  const std::string path = folder.study();
  check(fs::exists(path), folder.path.string(), ": there is no study in this folder (no compare.json)");
  const json in = read_json(path);
  Study study;
  try {
    study.title = in.at("title");
    study.within = in.at("within");
    in.at("pictures").get_to(study.pictures);
    check(!study.pictures.empty(), "\"pictures\" is empty");
    from_json(in.at("config"), path, study.base);
    for (const json& axis : in.at("vary"))
      study.axes.push_back({.key = axis.at("key"), .values = axis.at("values").get<std::vector<json>>()});
    check(!study.axes.empty(), "\"vary\" is empty");
    for (const StudyAxis& axis : study.axes) check(!axis.values.empty(), axis.key, " has no values");
    make_cells(study, flags);
    for (const json& row : in.at("runs")) study.runs.push_back(run_from_json(row, study));
  } catch (const json::exception& e) {
    fail(path, ": not the file of a study (", e.what(), ")");
  } catch (const Error& e) {  // wrong usage is what it would be on a command line
    fail(path, ": not the file of a study that can be made (", e.what(), ")");
  }
  return study;
}

void remove_study(const StudyFolder& folder, const Study& study, const fs::path& kept) {
  // First what says that there are finished runs.
  fs::remove(folder.study());
  for (const StudyCell& cell : study.cells) {
    std::error_code not_empty;
    for (int64_t k = 1; k <= study.base.runs; ++k) {
      remove_run(folder.run(cell, k));
      if (folder.run(cell, k).path != kept) fs::remove(folder.run(cell, k).path, not_empty);
    }
    fs::remove(folder.path / cell.name, not_empty);
  }
  for (const std::string& file : folder.files()) {
    std::error_code error;
    fs::remove(file, error);
    check(!error, "cannot remove ", file, ": ", error.message());
  }
}

}  // namespace weft::app
