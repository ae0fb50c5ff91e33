// model.safetensors: the weights, and in the metadata all that eval and predict need besides.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "weft/engine/data/transforms.h"
#include "weft/engine/module.h"

namespace CLI {
class App;
}

namespace weft::app {

/// How a model is built and fed.
struct ModelInfo {
  std::string model, activation;
  bool sa = false, sym = false;
  int64_t size = 128, valid_resize = 0;  ///< 0: as size
  std::vector<std::string> classes;
  data::Normalize normalize;
  bool recompute = false;  ///< in training; not in the file, because it changes no result
};

/// A new model, its weights drawn from the default generator.
std::unique_ptr<Module> build_model(const ModelInfo& info);

/// Writes weights, buffers and info. The same weights and info give the same bytes.
void save_model(const std::string& path, const Module& model, const ModelInfo& info);

struct LoadedModel {
  ModelInfo info;
  std::unique_ptr<Module> module;  ///< in evaluation mode
};
/// The file that load_model() reads.
std::string model_file(const std::string& path, bool best = false);
/// Reads a file of save_model, or the model.safetensors of a run's folder, or, `best`, its best.safetensors.
/// Throws Error where that is not one, UsageError where a file is to be the best of its run.
LoadedModel load_model(const std::string& path, bool best = false);
/// Adds --best to a command that takes such a path.
void add_best(CLI::App& command, bool& best);
/// Gives the module the weights and buffers of such a file, which must have the same names. What has another
/// shape, as a last layer of other classes, stays as it is; returns the names of that. Throws Error where
/// names differ or nothing fits.
std::vector<std::string> start_from(const std::string& path, Module& module);

}  // namespace weft::app
