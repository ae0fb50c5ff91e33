#include "weft/apps/weft/model_file.h"

#include <filesystem>
#include <nlohmann/json.hpp>

#include "weft/engine/file.h"
#include "weft/engine/ops/activation.h"
#include "weft/engine/safetensors.h"
#include "weft/layers/models.h"

namespace weft::app {

using nlohmann::json;

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
  in.at("size").get_to(info.size), in.at("valid_resize").get_to(info.valid_resize);
  in.at("classes").get_to(info.classes);
  in.at("mean").get_to(info.normalize.mean), in.at("std").get_to(info.normalize.std);
  return info;
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
  save_safetensors(path, model.state_dict(), {{"format", kFormat}, {"info", to_json(info).dump()}});
}

LoadedModel load_model(const std::string& path) {
  const std::string file = std::filesystem::is_directory(path)
                               ? (std::filesystem::path(path) / "model.safetensors").string()
                               : path;
  std::map<std::string, std::string> metadata;
  const StateDict weights = load_safetensors(file, &metadata);
  check(metadata["format"] == kFormat, file, ": not a model that weft train wrote (its format is \"",
        metadata["format"], "\", expected \"", kFormat, "\")");
  check_nesting(file, metadata["info"]);
  LoadedModel loaded;
  try {
    loaded.info = info_from(json::parse(metadata["info"]));
  } catch (const json::exception&) {
    fail(file, ": damaged (its description of the model cannot be read)");
  }
  loaded.module = build_model(loaded.info);
  try {
    loaded.module->load_state_dict(weights);
  } catch (const Error& e) {
    fail(file, ": the weights do not fit ", loaded.info.model, ": ", e.what());
  }
  loaded.module->eval();
  return loaded;
}

}  // namespace weft::app
