// weft train on a GPU, an emulated one or a real one, with the activations that learn parameters or draw.
#include <doctest/doctest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "support/command.h"
#include "weft/engine/file.h"
#include "weft/kernels/activation.h"

using namespace weft::test;
using nlohmann::json;
using weft::read_file;

TEST_CASE("a run with each of them trains on the GPU, and goes on after a stop to the same bits") {
  make_sample(24, 2, 1);
  for (int i = weft::kActivationCount; i < weft::kAllActivationCount; ++i) {
    const std::string activation(weft::activation_name(weft::Activation(i)));
    CAPTURE(activation);
    const auto train = [&](const std::string& name, const Arguments& more) {
      Arguments all = {"train",    "--data",         at("sample"), "--out",       at(name), "--size",
                       "16",       "--epochs",       "2",          "--lr",        "2e-3",   "--batch-size",
                       "10",       "--model",        "resnet20",   "--min-scale", "0.7",    "--activation",
                       activation, "--overwrite",    "--quiet",    "--device",    "cuda",   "--precision",
                       "bf16",     "--deterministic"};
      all.insert(all.end(), more.begin(), more.end());
      return weft_run(all);
    };
    const Result through = train("through", {});
    REQUIRE_MESSAGE(through.code == 0, through.err);
    const json summary = json::parse(read_file(at("through") + "/summary.json"));
    CHECK(std::isfinite(summary.at("final_train_loss").get<double>()));
    CHECK(train("stopped", {"--stop-after-steps", "3"}).code == 1);
    const Result resumed = weft_run({"train", "--resume", at("stopped"), "--quiet"});
    REQUIRE_MESSAGE(resumed.code == 0, resumed.err);
    CHECK(read_file(at("stopped") + "/model.safetensors") == read_file(at("through") + "/model.safetensors"));
  }
}
