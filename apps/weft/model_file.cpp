#include "weft/apps/weft/model_file.h"

#include <CLI/CLI.hpp>
#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>

#include "weft/apps/weft/command.h"
#include "weft/apps/weft/config.h"
#include "weft/apps/weft/json_file.h"
#include "weft/apps/weft/study.h"
#include "weft/engine/file.h"
#include "weft/engine/finite.h"
#include "weft/engine/ops/activation.h"
#include "weft/engine/safetensors.h"
#include "weft/engine/whole_number.h"
#include "weft/layers/models.h"

namespace weft::app {

using nlohmann::json;
namespace fs = std::filesystem;

namespace {

constexpr const char* kFormat = "weft model 1";

json to_json(const ModelInfo& info) {
  return {{"model", info.model},
          {"activation", info.activation},
          {"sa", info.sa},
          {"sym", info.sym},
          {"size", info.size},
          {"valid_resize", info.valid_resize},
          {"classes", info.classes},
          {"mean", info.normalize.mean},
          {"std", info.normalize.std}};
}

ModelInfo info_from(const json& in) {
  ModelInfo info;
  in.at("model").get_to(info.model), in.at("activation").get_to(info.activation);
  in.at("sa").get_to(info.sa), in.at("sym").get_to(info.sym);
  info.size = whole_number<int64_t>(in.at("size"), "its size");
  info.valid_resize = whole_number<int64_t>(in.at("valid_resize"), "its valid_resize");
  in.at("classes").get_to(info.classes);
  in.at("mean").get_to(info.normalize.mean), in.at("std").get_to(info.normalize.std);
  return info;
}

/// Throws Error where no run of weft train has such an `info`: the file may have been edited.
void validate(const ModelInfo& info) {
  const ModelEntry& entry = find_model(info.model);
  const int64_t smallest = entry.smallest_size;
  activation_by_name(info.activation);
  check(entry.attention || !(info.sa || info.sym), info.model, " has no place for self-attention");
  check(info.size >= smallest && info.size <= kMostSize, "its size is ", info.size, ", but ", info.model,
        " takes ", smallest, " to ", kMostSize);
  check(info.size % entry.size_step == 0, "its size is ", info.size, ", no multiple of ", entry.size_step);
  check(info.valid_resize == 0 || (info.valid_resize >= info.size && info.valid_resize <= kMostResize),
        "its valid_resize is ", info.valid_resize, ", expected 0 or ", info.size, " to ", kMostResize);
  for (size_t c = 0; c < 3; ++c)
    check(std::isfinite(info.normalize.mean[c]) && std::isfinite(info.normalize.std[c]) &&
              info.normalize.std[c] > 0,
          "mean and std of colour ", c, " are ", info.normalize.mean[c], " and ", info.normalize.std[c],
          ", expected finite numbers, std above 0");
  check(!info.classes.empty(), "it names no classes");
  check(std::set(info.classes.begin(), info.classes.end()).size() == info.classes.size(),
        "it names a class twice");
}

[[noreturn]] void fail_for_study(const std::string& path) {
  constexpr size_t kNamed = 6;
  std::vector<std::string> runs = runs_in({path});
  check(!runs.empty(), path, " holds a study of weft lab compare, of which no run has a model yet");
  if (runs.size() > kNamed) runs.resize(kNamed), runs.push_back("...");
  fail(path, " holds a study of weft lab compare; give one of its runs: ", joined(runs));
}

}  // namespace

std::unique_ptr<Module> build_model(const ModelInfo& info) {
  return make_model(info.model, {.activation = activation_by_name(info.activation),
                                 .self_attention = info.sa,
                                 .symmetric = info.sym,
                                 .recompute = info.recompute,
                                 .classes = int64_t(info.classes.size()),
                                 .image_size = info.size});
}

void save_model(const std::string& path, const Module& model, const ModelInfo& info) {
  save_safetensors(path, model.state_dict(), {{"format", kFormat}, {"info", one_line(to_json(info))}});
}

std::string model_file(const std::string& path, bool best) {
  std::error_code error;
  if (!fs::is_directory(path, error)) {
    if (best) usage_error("--best is of a run; give its folder, not ", path);
    return path;
  }
  const RunFolder folder{path};
  if (fs::exists(StudyFolder{path}.study(), error)) fail_for_study(path);
  int64_t runs = 0;
  while (fs::exists(folder.run(runs + 1).model(), error)) ++runs;
  check(runs == 0 || fs::exists(folder.model(), error), path, " holds several runs; give one of them, ",
        folder.run(1).path.string(), runs > 1 ? concat(" to run-", runs) : "");
  if (!best) return folder.model();
  check(fs::exists(folder.best(), error), folder.best(),
        " is not there; weft train --keep-best writes it, and without --best it is the last epoch's weights "
        "that are used");
  return folder.best();
}

void add_best(CLI::App& command, bool& best) {
  command.add_flag(
      "--best", best,
      "with a run's folder: the weights of its best epoch, as weft train --keep-best keeps them");
}

namespace {

/// A file of save_model.
struct Saved {
  std::string file;
  ModelInfo info;
  StateDict weights;  // all finite
};

Saved read_saved(const std::string& path, bool best = false) {
  Saved saved{.file = model_file(path, best), .info = {}, .weights = {}};
  const std::string& file = saved.file;
  std::map<std::string, std::string> metadata;
  saved.weights = load_safetensors(file, &metadata);
  check(metadata["format"] == kFormat, file, ": not a model that weft train wrote (its format is \"",
        metadata["format"], "\", expected \"", kFormat, "\")");
  check_nesting(file, metadata["info"]);
  try {
    saved.info = info_from(json::parse(metadata["info"]));
    validate(saved.info);
  } catch (const json::exception&) {
    fail(file, ": damaged (its description of the model cannot be read)");
  } catch (const Error& e) {
    fail(file, ": damaged (its description makes no model: ", e.what(), ")");
  }
  // Before anything as large as the description says is made: a few bytes can promise much.
  int64_t numbers = 0;
  for (const auto& [name, weight] : saved.weights) {
    check(all_finite(weight), file, ": damaged (a weight is not finite)");
    numbers += weight.numel();
  }
  const int64_t pixels = find_model(saved.info.model).fixed_size ? 3 * saved.info.size * saved.info.size : 0;
  check(numbers >= std::max(pixels, int64_t(saved.info.classes.size())), file, ": damaged (it has ", numbers,
        " weights, fewer than its ", saved.info.classes.size(), " classes and ", saved.info.size,
        " pixels need)");
  return saved;
}

/// Calls refuse(error) where the weights are not those of the module, by name or by shape.
template <class F>
void load_weights(const StateDict& weights, Module& module, F refuse) {
  try {
    module.load_state_dict(weights);
  } catch (const OutOfMemoryError&) {
    throw;
  } catch (const Error& e) {
    refuse(e);
  }
}

}  // namespace

LoadedModel load_model(const std::string& path, bool best) {
  const Saved saved = read_saved(path, best);
  LoadedModel loaded{.info = saved.info, .module = build_model(saved.info)};
  load_weights(saved.weights, *loaded.module, [&](const Error& e) {
    fail(saved.file, ": the weights do not fit ", loaded.info.model, ": ", e.what());
  });
  loaded.module->eval();
  return loaded;
}

std::vector<std::string> start_from(const std::string& path, Module& module) {
  const Saved saved = read_saved(path);
  const StateDict own = module.state_dict();
  StateDict weights = saved.weights;
  std::vector<std::string> others;
  for (auto& [name, weight] : weights) {
    const Tensor mine = find(own, name);
    if (!mine.defined() || mine.shape() == weight.shape()) continue;
    others.push_back(name);
    weight = mine.clone();
  }
  check(others.size() < weights.size(), "--init ", saved.file,
        ": none of its weights has a shape of this model");
  load_weights(weights, module, [&](const Error& e) {
    fail("--init ", saved.file, ": it is of ", saved.info.model, saved.info.sa ? " with attention" : "",
         ", and its weights are others (", e.what(),
         "); train the same --model, with --sa and --sym as there");
  });
  return others;
}

}  // namespace weft::app
