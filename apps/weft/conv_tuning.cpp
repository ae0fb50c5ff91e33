#include "weft/apps/weft/conv_tuning.h"

#include <fmt/core.h>

#include <cstdio>
#include <map>
#include <nlohmann/json.hpp>
#include <utility>

#include "weft/apps/weft/cache.h"
#include "weft/apps/weft/command.h"
#include "weft/apps/weft/json_file.h"
#include "weft/engine/error.h"
#include "weft/engine/file.h"
#include "weft/engine/whole_number.h"
#include "weft/kernels/convolution.h"
#include "weft/kernels/cuda.h"
#include "weft/kernels/parallel.h"

namespace weft::app {

using kernels::Conv2dParams;
using kernels::ConvPass;
using nlohmann::json;

namespace {

constexpr std::pair<const char*, int64_t Conv2dParams::*> kFields[] = {
    {"batch", &Conv2dParams::batch},
    {"in_h", &Conv2dParams::in_h},
    {"in_w", &Conv2dParams::in_w},
    {"in_c", &Conv2dParams::in_c},
    {"out_c", &Conv2dParams::out_c},
    {"kernel_h", &Conv2dParams::kernel_h},
    {"kernel_w", &Conv2dParams::kernel_w},
    {"stride_h", &Conv2dParams::stride_h},
    {"stride_w", &Conv2dParams::stride_w},
    {"pad_h", &Conv2dParams::pad_h},
    {"pad_w", &Conv2dParams::pad_w},
    {"dilation_h", &Conv2dParams::dilation_h},
    {"dilation_w", &Conv2dParams::dilation_w},
    {"groups", &Conv2dParams::groups}};
constexpr const char* kPassNames[] = {"forward", "backward_input", "backward_weight"};

json to_json(const ConvChoice& choice) {
  json j = {{"pass", kPassNames[int(choice.pass)]}, {"algorithm", conv_algorithm_name(choice.algorithm)}};
  for (const auto& [name, field] : kFields) j[name] = choice.params.*field;
  if (choice.params.bf16) j["bf16"] = true;
  return j;
}

/// Throws where a key is missing or of another type.
ConvChoice from_json(const json& j) {
  ConvChoice choice;
  choice.kernels = kernels::cpu().name;
  for (const auto& [name, field] : kFields) choice.params.*field = whole_number<int64_t>(j.at(name), name);
  choice.params.bf16 = j.value("bf16", false);
  const std::string pass = j.at("pass"), algorithm = j.at("algorithm");
  for (int i = 0; i < 3; ++i)
    if (pass == kPassNames[i]) choice.pass = ConvPass(i);
  choice.algorithm = parse_conv_algorithm(algorithm).value_or(ConvAlgorithm::automatic);
  return choice;
}

/// Choices in `file`; none where there is no such file or it is damaged.
std::vector<ConvChoice> read_choices(const std::filesystem::path& file) {
  std::vector<ConvChoice> choices;
  if (!std::filesystem::exists(file)) return choices;
  try {
    for (const json& j : read_json(file.string())) choices.push_back(from_json(j));
  } catch (const std::exception&) {
    choices.clear();
  }
  return choices;
}

}  // namespace

std::filesystem::path ConvTuning::default_file() {
  return cache_folder() / fmt::format("conv2d-{}-{}.json", kernels::cpu().name, num_threads());
}

ConvTuning::ConvTuning(std::filesystem::path file) : file_(std::move(file)) {
  add_conv_choices(read_choices(file_));
  known_ = conv_choices().size();
  set_conv_tuning(true);
}

ConvTuning::~ConvTuning() {
  set_conv_tuning(false);
  keep();
}

void ConvTuning::keep() {
  try {
    json all = json::array();
    for (const ConvChoice& choice : conv_choices())
      if (choice.kernels == kernels::cpu().name) all.push_back(to_json(choice));
    if (all.size() == known_) return;
    std::filesystem::create_directories(file_.parent_path());
    write_file(file_.string(), all.dump(1));
    known_ = all.size();
  } catch (const std::exception& e) {
    if (!std::exchange(complained_, true))
      complain(std::string("warning: the choices of --tune are not kept: ") + e.what());
  }
}

void keep_gpu_plans() { kernels::cuda::set_plan_cache_folder((cache_folder() / "cudnn").string()); }

}  // namespace weft::app
