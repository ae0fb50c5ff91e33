// weft eval: accuracy, loss and confusion of a saved model.
#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <cmath>
#include <memory>
#include <nlohmann/json.hpp>

#include "weft/apps/weft/command.h"
#include "weft/apps/weft/evaluation.h"
#include "weft/apps/weft/evaluation_source.h"
#include "weft/apps/weft/json_file.h"

namespace weft::app {

using nlohmann::json;

namespace {

void print_confusion(const ClassResults& e, const std::vector<std::string>& classes) {
  const size_t n = classes.size();
  size_t name_width = 5;
  int cell = 4;
  for (const std::string& c : classes) name_width = std::max(name_width, printable(c).size());
  for (int64_t count : e.confusion) cell = std::max(cell, int(std::to_string(count).size()));
  fmt::print("confusion (rows: class, columns: predicted class, in the same order)\n");
  for (size_t row = 0; row < n; ++row) {
    int64_t total = 0;
    fmt::print("{:<{}}", printable(classes[row]), name_width);
    for (size_t column = 0; column < n; ++column) {
      total += e.confusion[row * n + column];
      fmt::print(" {:>{}}", e.confusion[row * n + column], cell);
    }
    if (total > 0) fmt::print("   {:6.2f} %", 100.0 * double(e.confusion[row * n + row]) / double(total));
    fmt::print("\n");
  }
}

json to_json(const ClassResults& e, const std::vector<std::string>& classes,
             const data::BatchLoader& loader) {
  json confusion = json::array();
  const size_t n = classes.size();
  for (size_t row = 0; row < n; ++row)
    confusion.push_back(std::vector<int64_t>(e.confusion.begin() + int64_t(row * n),
                                             e.confusion.begin() + int64_t((row + 1) * n)));
  return {{"accuracy", e.accuracy},
          {"loss", e.loss},
          {"images", e.images},
          {"skipped_images", loader.skipped().size()},
          {"ignored_files", loader.dataset().ignored_in_classes().size()},
          {"classes", classes},
          {"confusion", confusion}};
}

int eval(const EvaluationFlags& flags, bool json_lines) {
  Progress progress(json_lines ? Output::json : Output::human);
  const EvaluationSource source = open_evaluation(flags, progress);
  const std::vector<std::string>& classes = source.loaded.info.classes;
  const ClassResults result =
      evaluate(*source.loaded.module, *source.loader, source.label_map, int64_t(classes.size()),
               [&](int64_t done) { progress.note("evaluating", done, source.loader->batches()); });
  progress.clear();
  check(std::isfinite(result.loss), flags.model, ": the model's loss is ", result.loss,
        "; its weights or its mean and std are damaged, or too large for --precision ", flags.precision);
  if (json_lines) {
    fmt::print("{}\n", one_line(to_json(result, classes, *source.loader)));
  } else {
    fmt::print("accuracy {:.2f} %  loss {:.4f}  ({} images)\n", 100 * result.accuracy, result.loss,
               result.images);
    print_confusion(result, classes);
  }
  return kDone;
}

}  // namespace

void add_eval(CLI::App& weft, Action& action) {
  auto flags = std::make_shared<EvaluationFlags>();
  auto json_lines = std::make_shared<bool>(false);
  CLI::App* command =
      weft.add_subcommand("eval", "Accuracy, loss and confusion of a saved model on a data set");
  add_evaluation_flags(*command, *flags);
  command->add_flag("--json", *json_lines, "one JSON object on standard output");
  command->final_callback(
      [flags, json_lines, &action] { action = [flags, json_lines] { return eval(*flags, *json_lines); }; });
}

}  // namespace weft::app
