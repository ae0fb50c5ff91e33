// weft lab depth: the Mish paper's study of deep networks on MNIST, as a preset of weft lab compare.
#include <CLI/CLI.hpp>
#include <charconv>
#include <filesystem>
#include <memory>
#include <sstream>
#include <string>
#include <system_error>
#include <vector>

#include "weft/apps/weft/fetch.h"
#include "weft/apps/weft/lab.h"
#include "weft/apps/weft/lab_study.h"

namespace weft::app {
namespace {

constexpr int kLeastDepth = 15, kMostDepth = 25;  // of the models depthN and plainN

/// The recipe of the notebook (digantamisra98/Mish at 04f997a, Layers_Acc.ipynb).
TrainConfig depth_recipe() {
  TrainConfig c;
  c.data = "mnist";
  c.size = 28;
  c.epochs = 10, c.batch_size = 128;
  c.optimizer = "sgd", c.lr = 0.01, c.mom = 0, c.wd = 0;
  c.schedule = "constant";
  c.label_smoothing = 0;
  c.min_scale = 1, c.flip = false;
  c.runs = 3;
  return c;
}

struct DepthFlags : StudyFlags {
  std::string setup = "published", depths = "15-25", activations = "mish,silu,relu";
  bool typed = false;
};

/// Adds the depths of "15" or "15-18" to the list; false where it is neither, or there are none such.
bool add_depths(const std::string& part, std::vector<int>& depths) {
  const char *at = part.data(), *const end = at + part.size();
  int first = 0, last = 0;
  auto read = std::from_chars(at, end, first);
  if (read.ec != std::errc()) return false;
  last = first;
  if (read.ptr != end) {
    if (*read.ptr != '-') return false;
    read = std::from_chars(read.ptr + 1, end, last);
    if (read.ec != std::errc() || read.ptr != end) return false;
  }
  if (first < kLeastDepth || last > kMostDepth || first > last) return false;
  for (int depth = first; depth <= last; ++depth) depths.push_back(depth);
  return true;
}

int run_depth(DepthFlags flags) {
  if (flags.setup != "published" && flags.setup != "clean")
    usage_error("--setup must be published or clean, got ", flags.setup);
  std::vector<int> depths;
  std::istringstream parts(flags.depths);
  for (std::string part; std::getline(parts, part, ',');)
    if (!add_depths(part, depths))
      usage_error("--depths ", flags.depths, ": expected numbers from ", kLeastDepth, " to ", kMostDepth,
                  ", as in 15,20,25 or 15-25");
  std::vector<std::string> activations;
  std::istringstream names(flags.activations);
  for (std::string name; std::getline(names, name, ',');)
    activations.push_back(name == "swish" ? "silu" : name);  // what the paper calls it
  const char* const model = flags.setup == "clean" ? "plain" : "depth";
  flags.axes_typed = flags.typed || !flags.vary.empty();
  flags.vary.insert(flags.vary.begin(),
                    {"model=" + joined(depths, ",", [&](int depth) { return concat(model, depth); }),
                     "activation=" + joined(activations, ",")});
  flags.within = "model";
  flags.title = flags.setup == "clean" ? "Depth, plain networks" : "Depth, as published";
  const std::string& data = flags.config.data;
  if (flags.resume.empty() && flags.config_file.empty() && data != kSampleData && !find_known_set(data))
    check(std::filesystem::exists(data), "--data ", data,
          ": there is no such folder. The study is of MNIST: put train-images-idx3-ubyte.gz, "
          "train-labels-idx1-ubyte.gz, t10k-images-idx3-ubyte.gz and t10k-labels-idx1-ubyte.gz (from "
          "https://storage.googleapis.com/cvdf-datasets/mnist/) into a folder, and name it with --data");
  return run_study(flags);
}

}  // namespace

void add_lab_depth(CLI::App& lab, Action& action) {
  auto flags = std::make_shared<DepthFlags>();
  flags->preset = depth_recipe();
  CLI::App* command =
      lab.add_subcommand("depth", "How deep a network each activation can train: the Mish paper's study");
  command
      ->add_option("--setup", flags->setup,
                   "published: the notebook's networks (two convolutions, dense layers with batch norm and "
                   "dropout), or clean: as many plain dense layers, He's initialisation")
      ->capture_default_str();
  command->add_option("--depths", flags->depths, "layers, 15 to 25: a range, or a list")
      ->capture_default_str();
  command
      ->add_option("--activations", flags->activations,
                   "those to compare, the first is the baseline; swish means silu")
      ->capture_default_str();
  add_study_flags(*command, *flags);
  hide_flags(*flags, {"model", "activation"});  // the study varies them
  command->footer(
      "A preset of weft lab compare, with its files; each activation is compared with the first at the same "
      "depth. Defaults are\n"
      "the recipe of the notebook behind the paper's figure (digantamisra98/Mish at 04f997a, "
      "Layers_Acc.ipynb). What differs:\n"
      "pictures are normalised by ImageNet's mean and deviation, not divided by 255; grey ones have three "
      "equal channels; the last\n"
      "incomplete batch of an epoch is dropped (468 steps, not 469). docs/lab.md has figures.");
  command->final_callback([flags, command, &action] {
    for (const char* name : {"--setup", "--depths", "--activations"})
      flags->typed |= command->get_option(name)->count() > 0;
    action = [flags] { return run_depth(*flags); };
  });
}

}  // namespace weft::app
