// weft predict: the likeliest classes of image files.
#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <memory>
#include <nlohmann/json.hpp>
#include <numeric>

#include "weft/apps/weft/command.h"
#include "weft/apps/weft/json_file.h"
#include "weft/apps/weft/model_file.h"
#include "weft/apps/weft/names.h"
#include "weft/engine/data/file_tree.h"
#include "weft/engine/data/preparation.h"
#include "weft/engine/file.h"
#include "weft/engine/ops/elementwise.h"
#include "weft/engine/ops/loss.h"

namespace weft::app {

using nlohmann::json;

namespace {

struct PredictFlags {
  std::string model, device = "cpu", precision = "fp32";
  std::vector<std::string> images;
  int64_t top = 5;
  bool best = false, json_lines = false;
  int threads = 0;
};

/// One file as the model saw its validation images, by what makes these in the loader too: f32 [1, size,
/// size, 3].
Tensor read_image(const std::string& file, const ModelInfo& info) {
  data::LoaderOptions options;
  options.train = false;
  options.size = int(info.size);
  options.resize = int(std::max(info.valid_resize, info.size));
  options.normalize = info.normalize;
  const std::string bytes = read_file(file, data::kMaxFileBytes);
  const Tensor x = Tensor::empty({1, info.size, info.size, 3});
  try {
    const data::Picture picture =
        data::decode_picture(options, {reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()});
    const data::Image& image = picture.image;
    const data::ResizePlan plan =
        data::plan_picture(options, picture.size, {image.height, image.width}, 0, 0);
    data::prepare_picture(options, image, plan, 0, 0, x.data<float>());
  } catch (const Error& e) {
    fail(file, ": cannot be used: ", e.what());
  }
  return x;
}

std::vector<float> probabilities(LoadedModel& model, const Tensor& image, DType dtype) {
  const Device device = model.module->parameters().front().tensor.device();
  return softmax(cast((*model.module)(image.to(device).to(dtype)), DType::f32)).to_vector<float>();
}

void predict_one(LoadedModel& model, const std::string& file, const PredictFlags& flags, DType dtype) {
  const std::vector<float> p = probabilities(model, read_image(file, model.info), dtype);
  check(std::all_of(p.begin(), p.end(), [](float v) { return std::isfinite(v); }), file,
        ": the model's result is not finite; its weights or its mean and std are damaged, or too large for "
        "--precision ",
        flags.precision);
  std::vector<size_t> order(p.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return p[a] > p[b]; });
  order.resize(std::min(order.size(), size_t(flags.top)));
  json top = json::array();
  if (!flags.json_lines) fmt::print("{}\n", printable(file));
  for (size_t c : order) {
    top.push_back({{"class", model.info.classes[c]}, {"probability", p[c]}});
    if (!flags.json_lines) fmt::print("  {:6.2f} %  {}\n", 100 * p[c], printable(model.info.classes[c]));
  }
  if (flags.json_lines) fmt::print("{}\n", one_line({{"file", file}, {"top", top}}));
}

int predict(const PredictFlags& flags) {
  use_threads(flags.threads);
  const Place place = place_of(flags.device, flags.precision);
  set_float32_matmul_precision(place.products);
  LoadedModel model = load_model(flags.model, flags.best);
  model.module->to(place.device);
  model.module->optimize_for_inference();
  int code = kDone;
  for (const std::string& file : flags.images) {
    try {
      predict_one(model, file, flags, place.dtype);
    } catch (const Error& e) {  // the other files are still wanted
      std::fflush(stdout);
      complain(e.what());
      code = kFailed;
    }
  }
  return code;
}

}  // namespace

void add_predict(CLI::App& weft, Action& action) {
  auto flags = std::make_shared<PredictFlags>();
  CLI::App* command = weft.add_subcommand("predict", "The likeliest classes of image files");
  command->add_option("--model", flags->model, "model.safetensors, or the folder of a run")->required();
  add_best(*command, flags->best);
  command->add_option("images", flags->images, "JPEG or PNG files")->required();
  command->add_option("--top", flags->top, "how many classes to show")
      ->check(CLI::Range(1, 1000000))
      ->capture_default_str();
  add_device(*command, flags->device, flags->precision);
  add_threads(*command, flags->threads);
  command->add_flag("--json", flags->json_lines, "one JSON object a line on standard output");
  command->final_callback([flags, &action] { action = [flags] { return predict(*flags); }; });
}

}  // namespace weft::app
