// weft export: a trained model for other programs.
#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <filesystem>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <system_error>

#include "weft/apps/weft/command.h"
#include "weft/apps/weft/json_file.h"
#include "weft/apps/weft/model_file.h"
#include "weft/apps/weft/onnx_model.h"
#include "weft/apps/weft/pytorch_state.h"
#include "weft/engine/safetensors.h"

namespace weft::app {

using nlohmann::json;

namespace {

struct ExportFlags {
  std::string model, out;
  bool best = false;
};

/// What a program that feeds the model has to know, as text.
std::map<std::string, std::string> export_metadata(const ModelInfo& info) {
  return {{"model", info.model},
          {"activation", info.activation},
          {"size", std::to_string(info.size)},
          {"valid_resize", std::to_string(std::max(info.valid_resize, info.size))},
          {"classes", one_line(json(info.classes))},
          {"mean", one_line(json(info.normalize.mean))},
          {"std", one_line(json(info.normalize.std))}};
}

int export_model(const ExportFlags& flags) {
  const auto ends_with = [&](const std::string& ending) {
    return flags.out.size() > ending.size() && flags.out.ends_with(ending);
  };
  const bool onnx_file = ends_with(".onnx");
  if (!onnx_file && !ends_with(".safetensors"))
    usage_error("--out ", flags.out, ": the name must end in .onnx or .safetensors");
  std::error_code none;  // one of the two is not there
  if (std::filesystem::equivalent(flags.out, model_file(flags.model, flags.best), none))
    usage_error("--out ", flags.out,
                ": that is the model itself, which weft could not read any more; choose another name");
  const std::filesystem::path out(flags.out);
  for (const char* name : {"model.safetensors", "best.safetensors", "checkpoint.safetensors"})
    if (out.filename() == name && std::filesystem::exists(out) &&
        std::filesystem::exists(out.parent_path() / "config.json"))
      usage_error("--out ", flags.out, ": that is a file of a run, which needs it; choose another name");
  const LoadedModel loaded = load_model(flags.model, flags.best);
  constexpr int64_t kColours = 3;
  const int64_t size = loaded.info.size;
  std::map<std::string, std::string> metadata = export_metadata(loaded.info);
  if (onnx_file) {
    onnx::Model graph = onnx::make_graph(*loaded.module, kColours, size, size);
    graph.metadata = std::move(metadata);
    onnx::save(flags.out, graph);
    fmt::print("{}: {} nodes, images [N, {}, {}, {}] -> logits [N, {}]\n", flags.out, graph.nodes.size(),
               kColours, size, size, loaded.info.classes.size());
  } else {
    const StateDict state = pytorch_state_dict(*loaded.module, kColours, size, size);
    metadata["format"] = "pt";  // as other writers of PyTorch's weights say
    save_safetensors(flags.out, state, metadata);
    fmt::print("{}: {} tensors\n", flags.out, state.size());
  }
  return kDone;
}

}  // namespace

void add_export(CLI::App& weft, Action& action) {
  auto flags = std::make_shared<ExportFlags>();
  CLI::App* command = weft.add_subcommand("export", "A saved model as ONNX, or its weights for PyTorch");
  command->add_option("model", flags->model, "model.safetensors, or the folder of a run")->required();
  add_best(*command, flags->best);
  command
      ->add_option("--out", flags->out,
                   "FILE.onnx: the whole model; FILE.safetensors: the weights in PyTorch's names and layouts")
      ->required();
  command->final_callback([flags, &action] { action = [flags] { return export_model(*flags); }; });
}

}  // namespace weft::app
