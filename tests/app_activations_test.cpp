// weft train, eval and predict with the activations that learn parameters or draw.
#include <doctest/doctest.h>

#include <nlohmann/json.hpp>
#include <sstream>

#include "support/command.h"
#include "weft/engine/file.h"
#include "weft/kernels/activation.h"

using namespace weft::test;
using nlohmann::json;
using weft::read_file;

namespace {

const std::string& sample() {
  static const std::string path = make_sample(24, 3, 1);
  return path;
}

Arguments training(const std::string& name, const std::string& activation, const Arguments& more) {
  Arguments all = {"train",    "--data",       sample(), "--out",        at(name),   "--model",
                   "resnet20", "--size",       "16",     "--epochs",     "3",        "--lr",
                   "2e-3",     "--batch-size", "10",     "--activation", activation, "--min-scale",
                   "0.7",      "--overwrite",  "--quiet"};
  all.insert(all.end(), more.begin(), more.end());
  return all;
}

std::string model_of(const std::string& name) { return read_file(at(name) + "/model.safetensors"); }

std::vector<std::string> learned_and_random() {
  std::vector<std::string> names;
  for (int i = weft::kActivationCount; i < weft::kAllActivationCount; ++i)
    names.emplace_back(weft::activation_name(weft::Activation(i)));
  return names;
}

/// Train loss of each epoch.
std::vector<double> losses(const std::string& name) {
  std::istringstream in(read_file(at(name) + "/metrics.csv"));
  std::string line;
  std::getline(in, line);
  REQUIRE(line.rfind("epoch,train_loss,", 0) == 0);
  std::vector<double> all;
  while (std::getline(in, line)) all.push_back(std::stod(line.substr(line.find(',') + 1)));
  return all;
}

}  // namespace

TEST_CASE("a run with each of them learns, goes on after a stop to the same bits, and serves predictions") {
  for (const std::string& activation : learned_and_random()) {
    CAPTURE(activation);
    const Result through = weft_run(training("through", activation, {}));
    REQUIRE_MESSAGE(through.code == 0, through.err);
    const auto epochs = losses("through");
    REQUIRE(epochs.size() == 3);
    CHECK(epochs.back() < epochs.front());

    CHECK(weft_run(training("stopped", activation, {"--stop-after-steps", "4"})).code == 1);
    const Result resumed = weft_run({"train", "--resume", at("stopped"), "--quiet"});
    REQUIRE_MESSAGE(resumed.code == 0, resumed.err);
    CHECK(model_of("stopped") == model_of("through"));

    const Result recomputed = weft_run(training("recomputed", activation, {"--recompute"}));
    REQUIRE_MESSAGE(recomputed.code == 0, recomputed.err);
    CHECK(model_of("recomputed") == model_of("through"));

    const auto eval = [] {
      const Result r = weft_run({"eval", "--model", at("through"), "--data", sample(), "--json"});
      REQUIRE_MESSAGE(r.code == 0, r.err);
      return json::parse(r.out);
    };
    const json first = eval();
    CHECK(first.at("loss") == eval().at("loss"));
    std::string picture;
    for (const auto& file : fs::recursive_directory_iterator(sample()))
      if (file.is_regular_file() && file.path().extension() != ".json") picture = file.path().string();
    const Result predicted = weft_run({"predict", "--model", at("through"), "--json", picture});
    REQUIRE_MESSAGE(predicted.code == 0, predicted.err);
    CHECK(json::parse(predicted.out).at("top").at(0).at("probability").get<double>() > 0.1);
  }
}
