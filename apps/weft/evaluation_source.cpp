#include "weft/apps/weft/evaluation_source.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <filesystem>

#include "weft/apps/weft/command.h"
#include "weft/apps/weft/config.h"
#include "weft/apps/weft/data_source.h"
#include "weft/apps/weft/names.h"
#include "weft/kernels/parallel.h"
#include "weft/layers/models.h"

namespace weft::app {
namespace {

/// --data, else what the run in the model's folder was trained on.
std::string data_of(const EvaluationFlags& flags) {
  if (!flags.data.empty()) return flags.data;
  namespace fs = std::filesystem;
  std::error_code error;
  const fs::path folder =
      fs::is_directory(flags.model, error) ? fs::path(flags.model) : fs::path(flags.model).parent_path();
  const std::string config_file = (folder / "config.json").string();
  if (!fs::exists(config_file, error))
    usage_error("--data is required (there is no config.json beside the model)");
  TrainConfig config;
  read_config(config_file, config);
  check_not_moved(config.data, config_file);
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

}  // namespace

void add_evaluation_flags(CLI::App& command, EvaluationFlags& flags) {
  command.add_option("--model", flags.model, "model.safetensors, or the folder of a run")->required();
  add_best(command, flags.best);
  command.add_option("--data", flags.data,
                     "folder, .tgz or name of a fetched set [what the run was trained on]");
  command.add_option("--split", flags.split, "val or train")
      ->check(CLI::IsMember({"val", "train"}))
      ->capture_default_str();
  command.add_option("--size", flags.size, "height and width of the images [as trained]")
      ->check(CLI::Range(int64_t{8}, kMostSize));
  command
      .add_option("--valid-resize", flags.valid_resize,
                  "resize the short side to this, then crop the centre [as trained]")
      ->check(CLI::Range(int64_t{8}, kMostResize));
  command.add_option("--batch-size", flags.batch_size, "images at a time")
      ->check(CLI::Range(1, 65536))
      ->capture_default_str();
  add_device(command, flags.device, flags.precision);
  add_threads(command, flags.threads);
  command.add_flag("--strict", flags.strict,
                   "refuse broken images, and files that are none, instead of skipping and counting them");
}

EvaluationSource open_evaluation(const EvaluationFlags& flags, Progress& progress) {
  use_threads(flags.threads);
  const auto [device, dtype, products] = place_of(flags.device, flags.precision);
  set_float32_matmul_precision(products);
  EvaluationSource source{.loaded = load_model(flags.model, flags.best), .loader = nullptr, .label_map = {}};
  const ModelInfo& info = source.loaded.info;
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
  const data::ImageDataset set = data::ImageDataset::open(path, flags.split);
  tell_ignored(path, {&set}, flags.strict, progress);
  source.loader = data::make_batches(set, o, device, gpu);
  source.loaded.module->to(device);
  source.label_map = map_classes(source.loader->dataset().classes(), info.classes);
  return source;
}

}  // namespace weft::app
