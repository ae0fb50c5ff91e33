// The settings of a training run: everything that decides its result.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "weft/optim/registry.h"

namespace weft::app {

/// The value of `data` that means: the sample set that weft draws itself.
constexpr const char* kSampleData = "built-in sample";

/// The longest side of what a model gets, and of the picture that it is cut out of; in pixels.
constexpr int64_t kMostSize = 4096, kMostResize = 8192;

struct TrainConfig {
  std::string data = kSampleData;
  std::string model = "mxresnet18";
  std::string activation;  ///< empty: the model's own, see default_activation()
  std::string init;        ///< file or folder of a run whose weights are the first ones; empty: random ones
  bool sa = false, sym = false;
  int64_t size = 128, valid_resize = 0;
  int64_t epochs = 5, batch_size = 64;
  std::string optimizer = "ranger";
  double lr = optim::Hyper().lr, mom = optim::Hyper().mom, sqrmom = optim::Hyper().sqrmom;
  double eps = optim::Hyper().eps, wd = optim::Hyper().wd;
  std::string schedule = "flat-cosine";
  double anneal_start = optim::ScheduleOptions().anneal_start;
  std::string loss = "cross-entropy";
  double focal_gamma = 2, label_smoothing = 0.1;
  double min_scale = 0.35, mixup = 0, cutmix = 0, erase = 0;
  int64_t pad = 0;
  std::string pad_mode = "constant";
  std::string jitter;  ///< "B,C,S,H", or empty
  bool flip = true;
  int64_t runs = 1;
  uint64_t seed = 42;
  std::string device = "cpu", precision = "fp32";
  std::string noisy_labels;
  bool recompute = false, strict = false, keep_best = false;
  bool exact = false, deterministic = false, tune = false;

  bool operator==(const TrainConfig&) const = default;
};

/// "--batch-size" for "batch_size".
std::string flag_of(const std::string& key);

nlohmann::json to_json(const TrainConfig& config);
/// Overwrites the settings that `json` has. Throws Error naming `path` and the key that is unknown or of
/// another type.
void from_json(const nlohmann::json& json, const std::string& path, TrainConfig& config);
/// `path`, or the config.json in it where it is a folder.
std::string config_file(const std::string& path);
/// from_json on config_file(path).
void read_config(const std::string& path, TrainConfig& config);
/// Sets the setting `key` (with _ or -) from a text, as its flag would; true and false are those of bool.
/// Throws UsageError, beginning with `where`, for a key that there is none of and a text that is no such
/// value.
void set_setting(TrainConfig& config, const std::string& where, std::string key, const std::string& text);
/// Flags of the settings in which two runs differ: "--model".
std::vector<std::string> differing_flags(const TrainConfig& a, const TrainConfig& b);

/// Throws UsageError naming the flag whose value no run can have; unknown names are answered with the list of
/// known ones. Throws Error for what this build or machine cannot do (CUDA); else the GPU of --device is the
/// one in use from here on.
void validate(const TrainConfig& config);

}  // namespace weft::app
