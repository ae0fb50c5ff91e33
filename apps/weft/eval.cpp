// weft eval: accuracy, loss and confusion of a saved model.
#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>

#include "weft/apps/weft/command.h"
#include "weft/apps/weft/config.h"
#include "weft/apps/weft/data_source.h"
#include "weft/apps/weft/evaluation.h"
#include "weft/apps/weft/json_file.h"
#include "weft/apps/weft/model_file.h"
#include "weft/apps/weft/names.h"
#include "weft/kernels/parallel.h"
#include "weft/layers/models.h"

namespace weft::app {

using nlohmann::json;

namespace {

struct EvalFlags {
  std::string model, data, split = "val", device = "cpu", precision = "fp32";
  int64_t size = 0, valid_resize = 0, batch_size = 64;
  bool strict = false, json_lines = false;
  int threads = 0;
};

/// --data, else what the run in the model's folder was trained on.
std::string data_of(const EvalFlags& flags) {
  if (!flags.data.empty()) return flags.data;
  namespace fs = std::filesystem;
  const fs::path folder =
      fs::is_directory(flags.model) ? fs::path(flags.model) : fs::path(flags.model).parent_path();
  const std::string config_file = (folder / "config.json").string();
  if (!fs::exists(config_file)) usage_error("--data is required (there is no config.json beside the model)");
  TrainConfig config;
  read_config(config_file, config);
  return config.data;
}

/// The model's class for each class of the data, by name.
std::vector<int64_t> map_classes(const std::vector<std::string>& data,
                                 const std::vector<std::string>& model) {
  std::vector<int64_t> map;
  for (const std::string& name : data) {
    const auto found = std::find(model.begin(), model.end(), name);
    check(found != model.end(), "the data have a class '", name, "' that the model was not trained on");
    map.push_back(found - model.begin());
  }
  return map;
}

void print_confusion(const Evaluation& e, const std::vector<std::string>& classes) {
  const size_t n = classes.size();
  size_t name_width = 5;
  int cell = 4;
  for (const std::string& c : classes) name_width = std::max(name_width, c.size());
  for (int64_t count : e.confusion) cell = std::max(cell, int(std::to_string(count).size()));
  fmt::print("confusion (rows: class, columns: predicted class, in the same order)\n");
  for (size_t row = 0; row < n; ++row) {
    int64_t total = 0;
    fmt::print("{:<{}}", classes[row], name_width);
    for (size_t column = 0; column < n; ++column) {
      total += e.confusion[row * n + column];
      fmt::print(" {:>{}}", e.confusion[row * n + column], cell);
    }
    if (total > 0) fmt::print("   {:6.2f} %", 100.0 * double(e.confusion[row * n + row]) / double(total));
    fmt::print("\n");
  }
}

json to_json(const Evaluation& e, const std::vector<std::string>& classes, int64_t skipped) {
  json confusion = json::array();
  const size_t n = classes.size();
  for (size_t row = 0; row < n; ++row)
    confusion.push_back(std::vector<int64_t>(e.confusion.begin() + int64_t(row * n),
                                             e.confusion.begin() + int64_t((row + 1) * n)));
  return {{"accuracy", e.accuracy},    {"loss", e.loss},     {"images", e.images},
          {"skipped_images", skipped}, {"classes", classes}, {"confusion", confusion}};
}

int eval(const EvalFlags& flags) {
  use_threads(flags.threads);
  const auto [device, dtype] = place_of(flags.device, flags.precision);
  LoadedModel loaded = load_model(flags.model);
  const ModelInfo& info = loaded.info;
  Progress progress(flags.json_lines ? Output::json : Output::human);
  const std::string path = resolve_data(data_of(flags), progress);
  data::LoaderOptions o;
  o.size = int(flags.size > 0 ? flags.size : info.size);
  require_fitting(info.model, info.sa, o.size);
  if (o.size != info.size && find_model(info.model).fixed_size)
    usage_error("--size ", o.size, ": ", info.model, " takes images of the size that it was trained on, ",
                info.size);
  o.resize = int(flags.valid_resize > 0 ? flags.valid_resize
                 : o.size == info.size  ? info.valid_resize
                                        : o.size);
  if (o.resize != 0 && o.resize < o.size)
    usage_error("--valid-resize ", o.resize, " must not be below --size ", o.size);
  o.batch_size = int(flags.batch_size);
  o.train = false;
  o.threads = std::clamp(num_threads() / 4, 1, 16);
  o.strict = flags.strict;
  o.normalize = info.normalize;
  o.warn = [&progress](const std::string& text) {
    progress.clear();
    complain(text);
  };
  data::BatchOptions gpu;
  gpu.dtype = dtype;
  const auto loader = data::make_batches(data::ImageDataset::open(path, flags.split), o, device, gpu);
  loaded.module->to(device);
  const std::vector<int64_t> map = map_classes(loader->dataset().classes(), info.classes);
  const auto result = evaluate(*loaded.module, *loader, map, int64_t(info.classes.size()), [&](int64_t done) {
    progress.note("evaluating", done, loader->batches());
    return true;
  });
  progress.clear();
  check(std::isfinite(result->loss), flags.model, ": the model's loss is ", result->loss,
        "; its weights or its mean and std are damaged, or too large for --precision ", flags.precision);
  if (flags.json_lines) {
    fmt::print("{}\n", one_line(to_json(*result, info.classes, int64_t(loader->skipped().size()))));
  } else {
    fmt::print("accuracy {:.2f} %  loss {:.4f}  ({} images)\n", 100 * result->accuracy, result->loss,
               result->images);
    print_confusion(*result, info.classes);
  }
  return kDone;
}

}  // namespace

void add_eval(CLI::App& weft, Action& action) {
  auto flags = std::make_shared<EvalFlags>();
  CLI::App* command =
      weft.add_subcommand("eval", "Accuracy, loss and confusion of a saved model on a data set");
  command->add_option("--model", flags->model, "model.safetensors, or the folder of a run")->required();
  command->add_option("--data", flags->data,
                      "folder, .tgz or name of a fetched set [what the run was trained on]");
  command->add_option("--split", flags->split, "val or train")
      ->check(CLI::IsMember({"val", "train"}))
      ->capture_default_str();
  command->add_option("--size", flags->size, "height and width of the images [as trained]")
      ->check(CLI::Range(int64_t{8}, kMostSize));
  command
      ->add_option("--valid-resize", flags->valid_resize,
                   "resize the short side to this, then crop the centre [as trained]")
      ->check(CLI::Range(int64_t{8}, kMostResize));
  command->add_option("--batch-size", flags->batch_size, "images at a time")
      ->check(CLI::Range(1, 65536))
      ->capture_default_str();
  add_device(*command, flags->device, flags->precision);
  add_threads(*command, flags->threads);
  command->add_flag("--strict", flags->strict, "refuse broken images instead of skipping and counting them");
  command->add_flag("--json", flags->json_lines, "one JSON object on standard output");
  command->final_callback([flags, &action] { action = [flags] { return eval(*flags); }; });
}

}  // namespace weft::app
