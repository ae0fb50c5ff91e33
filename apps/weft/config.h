// The settings of a training run: everything that decides its result, in one list that serves the command
// line, config.json and the comparison of two runs.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

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
  double lr = 4e-3, mom = 0.95, sqrmom = 0.99, eps = 1e-6, wd = 1e-2;
  std::string schedule = "flat-cosine";
  double anneal_start = 0.72;
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
  bool recompute = false, strict = false;
  bool exact = false, deterministic = false, tune = false;

  bool operator==(const TrainConfig&) const = default;
};

/// Calls visit(key, member, help) for every setting. The key is the name in config.json; the flag is "--" and
/// the key with dashes for underscores.
template <class Config, class Visit>
void visit_settings(Config& c, Visit&& visit) {
  visit(
      "data", c.data,
      "folder with train/CLASS/* and val/CLASS/*, or with MNIST's or CIFAR-10's files, a .tgz of one, or the "
      "name of a fetched set");
  visit("model", c.model, "model; --list-models names them");
  visit("activation", c.activation, "activation function [the model's own]");
  visit(
      "init", c.init,
      "start from the weights of a model.safetensors, or of the run in a folder, of the same --model; a last "
      "layer of other classes stays random");
  visit("sa", c.sa, "self-attention in the first stage, for models that have a place for it");
  visit("sym", c.sym, "symmetric self-attention (implies --sa)");
  visit("size", c.size, "height and width of the images in pixels");
  visit("valid_resize", c.valid_resize,
        "validation: resize the short side to this, then crop the centre; 0 means --size");
  visit("epochs", c.epochs, "times that the training images are gone through");
  visit("batch_size", c.batch_size, "images in a step; an incomplete last batch is dropped");
  visit("optimizer", c.optimizer, "optimizer");
  visit("lr", c.lr, "learning rate");
  visit("mom", c.mom, "momentum, beta 1");
  visit("sqrmom", c.sqrmom, "beta 2");
  visit("eps", c.eps, "eps of the optimizer");
  visit("wd", c.wd, "weight decay, not on biases and norm layers");
  visit("schedule", c.schedule, "flat-cosine|one-cycle|cosine|constant");
  visit("anneal_start", c.anneal_start, "flat-cosine: share of the steps before the rate falls");
  visit("loss", c.loss, "cross-entropy, bce (a yes or no for each class) or focal; of training alone");
  visit("focal_gamma", c.focal_gamma, "focal: how much examples count less that are right already");
  visit("label_smoothing", c.label_smoothing, "label smoothing of the training loss");
  visit("min_scale", c.min_scale, "smallest share of an image's area that a random crop keeps");
  visit(
      "pad", c.pad,
      "crop at a random place after adding so many pixels on each side, in the place of --min-scale; 0 means "
      "none");
  visit("pad_mode", c.pad_mode, "what is added: constant (black) or reflect");
  visit("flip", c.flip, "mirror a training image with probability 1/2 [on]");
  visit("jitter", c.jitter,
        "B,C,S,H: change brightness, contrast, saturation and hue at random, as 0.4,0.4,0.4,0.1");
  visit("erase", c.erase, "probability that a random box of a training image is erased");
  visit("mixup", c.mixup, "mix pairs of images with weights from Beta(A, A); 0 means none");
  visit("cutmix", c.cutmix,
        "put boxes of images into others, shares from Beta(A, A); with --mixup either, by batch");
  visit("runs", c.runs, "repeat with seeds SEED, SEED + 1, ..., each in a sub-folder run-K");
  visit("seed", c.seed, "seed of everything random");
  visit("device", c.device, "cpu, or cuda[:i] for the NVIDIA GPU of that number");
  visit("precision", c.precision,
        "fp32; bf16: on the CPU products only, on a GPU all but the weights; fp16, on a GPU, with loss "
        "scaling");
  visit("noisy_labels", c.noisy_labels, "CSV:COLUMN, training labels from that column of that file");
  visit("recompute", c.recompute, "save memory: compute activations again in the backward pass");
  visit("strict", c.strict, "refuse broken images instead of skipping and counting them");
  visit("exact", c.exact, "convolve by the plain sums: without Winograd, and without TF32 on a GPU");
  visit("deterministic", c.deterministic, "on a GPU: the same bits in each run (always so on the CPU)");
  visit("tune", c.tune, "measure the fastest convolution algorithm for each shape, once on this machine");
}

/// "--batch-size" for "batch_size".
std::string flag_of(const std::string& key);

nlohmann::json to_json(const TrainConfig& config);
/// Overwrites the settings that `json` has. Throws Error naming `path` and the key that is unknown or of
/// another type.
void from_json(const nlohmann::json& json, const std::string& path, TrainConfig& config);
/// from_json on a file, or on the config.json of a folder.
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
