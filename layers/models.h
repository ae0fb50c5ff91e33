// The catalogue of models: what they are called, where they come from, and how they are made.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "weft/engine/module.h"
#include "weft/kernels/activation.h"

namespace weft {

/// What every model of the catalogue can be told.
struct ModelOptions {
  std::optional<Activation> activation = {};    ///< default: the model's own
  std::optional<double> activation_param = {};  ///< slope or alpha; unused by vit-tiny
  bool self_attention = false;                  ///< for models that have a place for it
  bool symmetric = false;                       ///< its option
  bool recompute = false;                       ///< see Module::recompute; for networks of blocks
  int64_t in_channels = 3;
  int64_t classes = 10;
  int64_t image_size = 128;  ///< height and width; for models whose weights depend on it
};

/// A model of the catalogue.
struct ModelEntry {
  std::string name;
  std::string description;  ///< what it is, in a few words
  std::string source;       ///< paper or repository that it is built after
  Activation activation;    ///< its own
  /// Trained parameters, and multiply-adds of an image of `size` pixels (RGB, 10 classes, no attention).
  int64_t parameters, multiply_adds, size = 128;
  bool attention = false;     ///< has a place for self-attention
  bool fixed_size = false;    ///< takes images of the size that it was made for only
  int64_t smallest_size = 8;  ///< of its images
  int64_t size_step = 1;      ///< its images' height and width are multiples of this
  /// Makes it; options.activation is set.
  std::function<std::unique_ptr<Module>(const ModelOptions& options, Generator& generator)> make;
};

/// All models, in the order in which they are listed.
const std::vector<ModelEntry>& model_catalogue();
/// The model of that name. Throws Error that lists the names if there is none.
const ModelEntry& find_model(std::string_view name);
/// The names of the catalogue, in its order.
const std::vector<std::string>& model_names();

/// A model by its name: images [N, S, S, in_channels] -> logits [N, classes]. Throws Error for an unknown
/// name, and for self-attention in a model without a place for it.
std::unique_ptr<Module> make_model(std::string_view name, const ModelOptions& options = {},
                                   Generator& generator = default_generator());

}  // namespace weft
