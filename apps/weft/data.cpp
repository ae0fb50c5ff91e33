// weft data: making, fetching and checking data sets.
#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <filesystem>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>

#include "weft/apps/weft/cache.h"
#include "weft/apps/weft/command.h"
#include "weft/apps/weft/data_source.h"
#include "weft/apps/weft/fetch.h"
#include "weft/apps/weft/json_file.h"
#include "weft/engine/data/dataset.h"
#include "weft/engine/data/image.h"
#include "weft/engine/data/sample.h"
#include "weft/kernels/parallel.h"

namespace weft::app {

using nlohmann::json;
namespace fs = std::filesystem;

namespace {

// --- sample ---

struct SampleFlags {
  std::string out;
  data::SampleOptions options;
};

int make_sample(const SampleFlags& flags) {
  data::make_sample_dataset(flags.out, flags.options);
  fmt::print(
      "wrote {}: {} classes, {} training and {} validation images each; train on it with weft train --data "
      "{}\n",
      flags.out, data::sample_classes().size(), flags.options.train_per_class, flags.options.val_per_class,
      flags.out);
  return kDone;
}

void add_sample(CLI::App& data, Action& action) {
  auto flags = std::make_shared<SampleFlags>();
  CLI::App* command =
      data.add_subcommand("sample", "Draws the sample set: ten classes of shapes as JPEG files");
  command->add_option("--out", flags->out, "new folder")->required();
  command->add_option("--pixels", flags->options.pixels, "height and width")
      ->check(CLI::Range(16, 1024))
      ->capture_default_str();
  command->add_option("--train-per-class", flags->options.train_per_class, "training images of each class")
      ->check(CLI::Range(1, data::kMaxSamplePictures))
      ->capture_default_str();
  command->add_option("--val-per-class", flags->options.val_per_class, "validation images of each class")
      ->check(CLI::Range(1, data::kMaxSamplePictures))
      ->capture_default_str();
  command->add_option("--seed", flags->options.seed, "other seeds draw other pictures")
      ->check(fits_64_bits)
      ->capture_default_str();
  command->final_callback([flags, &action] { action = [flags] { return make_sample(*flags); }; });
}

// --- fetch ---

struct FetchFlags {
  std::string name, out;
  bool quiet = false;
};

int fetch_set(const FetchFlags& flags) {
  const KnownSet* set = find_known_set(flags.name);
  if (!set)
    usage_error("data fetch: unknown set '", flags.name, "'; known are ",
                joined(known_sets(), ", ", &KnownSet::name));
  const fs::path archive = fetch(*set, flags.out.empty() ? cache_folder() : fs::path(flags.out), flags.quiet);
  if (!flags.quiet)
    fmt::print("{}: complete, SHA-256 {}\ntrain on it with weft train --data {}\n", archive.string(),
               set->sha256, flags.out.empty() ? set->name : archive.string());
  return kDone;
}

void add_fetch(CLI::App& data, Action& action) {
  auto flags = std::make_shared<FetchFlags>();
  CLI::App* command =
      data.add_subcommand("fetch", "Downloads a known data set with curl and checks its SHA-256");
  command->add_option("name", flags->name, "name of the set")->required();
  command->add_option("--out", flags->out,
                      "folder for the archive [~/.cache/weft, where --data NAME finds it]");
  command->add_flag("--quiet", flags->quiet, "print nothing but errors");
  std::string footer = "Known sets:";
  for (const KnownSet& s : known_sets()) footer += fmt::format("\n  {}: {}", s.name, s.about);
  command->footer(footer);
  command->final_callback([flags, &action] { action = [flags] { return fetch_set(*flags); }; });
}

// --- verify ---

struct VerifyFlags {
  std::string path;
  bool json_lines = false;
  int threads = 0;
};

/// Why each broken picture cannot be decoded; empty for the good ones.
std::vector<std::string> decode_all(const data::ImageDataset& set, Progress& progress) {
  constexpr int64_t kAtOnce = 256;  // decoded between two signs of life
  std::vector<std::string> problems(static_cast<size_t>(set.size()));
  for (int64_t begin = 0; begin < set.size(); begin += kAtOnce) {
    kernels::parallel_for(std::min(kAtOnce, set.size() - begin), [&](int64_t k) {
      try {
        data::decode_image(*set.encoded(begin + k));
      } catch (const Error& e) {
        problems[size_t(begin + k)] = e.what();
      }
    });
    progress.note("checking " + set.split(), begin, set.size());
  }
  progress.clear();
  return problems;
}

int verify(const VerifyFlags& flags) {
  use_threads(flags.threads);
  Progress progress(flags.json_lines ? Output::json : Output::human);
  const auto [train, val] = data::ImageDataset::open_splits(resolve_data(flags.path, progress));
  std::map<std::string, std::map<std::string, int64_t>> good;  // by class and split
  json bad = json::array();
  int64_t images = 0;
  for (const data::ImageDataset* set : {&train, &val}) {
    const std::vector<std::string> problems = decode_all(*set, progress);
    images += set->size();
    for (int64_t i = 0; i < set->size(); ++i) {
      const std::string& problem = problems[size_t(i)];
      if (problem.empty())
        ++good[set->classes()[size_t(set->label(i))]][set->split()];
      else
        bad.push_back({{"file", set->name(i)}, {"problem", problem}});
    }
  }
  if (flags.json_lines) {
    fmt::print("{}\n", one_line({{"images", images},
                                 {"bad", bad},
                                 {"classes", good},
                                 {"ignored_files", train.ignored() + val.ignored()}}));
  } else {
    fmt::print("{:<24} {:>8} {:>8}\n", "class", "train", "val");
    for (auto& [name, counts] : good)
      fmt::print("{:<24} {:>8} {:>8}\n", printable(name), counts["train"], counts["val"]);
    for (const json& b : bad)
      fmt::print("bad: {}\n",
                 printable(concat(b["file"].get<std::string>(), ": ", b["problem"].get<std::string>())));
    fmt::print("{} images, {} bad, {} other files ignored\n", images, bad.size(),
               train.ignored() + val.ignored());
  }
  std::fflush(stdout);
  check(bad.empty(), flags.path, ": ", bad.size(), " of ", images, " images cannot be decoded");
  return kDone;
}

void add_verify(CLI::App& data, Action& action) {
  auto flags = std::make_shared<VerifyFlags>();
  CLI::App* command =
      data.add_subcommand("verify", "Decodes every image of a data set and counts classes and broken files");
  command->add_option("path", flags->path, "folder, .tgz or name of a fetched set")->required();
  add_threads(*command, flags->threads);
  command->add_flag("--json", flags->json_lines, "one JSON object on standard output");
  command->final_callback([flags, &action] { action = [flags] { return verify(*flags); }; });
}

}  // namespace

void add_data(CLI::App& weft, Action& action) {
  CLI::App* data = weft.add_subcommand("data", "Makes the sample set, fetches and checks data sets");
  data->require_subcommand(1);
  add_sample(*data, action);
  add_fetch(*data, action);
  add_verify(*data, action);
}

}  // namespace weft::app
