// Every kind of model through the command: listed, trained, stopped and gone on with, evaluated, used.
#include <doctest/doctest.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <sstream>

#include "support/command.h"
#include "weft/layers/models.h"

using nlohmann::json;
using weft::read_file;
using namespace weft::test;

namespace {

/// A tiny sample set, made once: two steps of 10 an epoch.
const std::string& sample() {
  static const std::string path = make_sample(32, 2, 1);
  return path;
}

Result train(const std::string& name, const std::string& model, const Arguments& more) {
  const std::string size = std::to_string(std::max<int64_t>(weft::find_model(model).smallest_size, 32));
  Arguments all = {"train",        "--data", sample(),      "--model", model,     "--out", at(name),
                   "--epochs",     "1",      "--size",      size,      "--quiet", "--lr",  "1e-3",
                   "--batch-size", "10",     "--min-scale", "0.7"};
  all.insert(all.end(), more.begin(), more.end());
  return weft_run(all);
}

}  // namespace

TEST_CASE("--list-models prints the catalogue") {
  const Result table = weft_run({"train", "--list-models"}),
               lines = weft_run({"train", "--list-models", "--json"});
  REQUIRE(table.code == 0);
  REQUIRE(lines.code == 0);
  std::istringstream in(lines.out);
  for (const weft::ModelEntry& entry : weft::model_catalogue()) {
    CHECK(table.out.find(" " + entry.name + " ") != std::string::npos);
    std::string line;
    REQUIRE(std::getline(in, line));
    const json row = json::parse(line);
    CHECK(row.at("name") == entry.name);
    CHECK(row.at("parameters") == entry.parameters);
    CHECK(row.at("multiply_adds") == entry.multiply_adds);
    CHECK(row.at("source") == entry.source);
  }
}

TEST_CASE("each kind trains, goes on where it stopped, and serves") {
  for (const char* model :
       {"mxresnet18-trick", "mxresnet-dw2", "xse_resnext18", "resnet20", "vit-tiny", "mlp", "depth15"}) {
    CAPTURE(model);
    const std::string whole = std::string("whole-") + model, parts = std::string("parts-") + model;
    const Arguments more = weft::find_model(model).attention ? Arguments{"--sa", "--recompute"} : Arguments{};
    const Result done = train(whole, model, more);
    REQUIRE_MESSAGE(done.code == 0, done.err);
    Arguments stopping = more;
    stopping.insert(stopping.end(), {"--stop-after-steps", "1"});
    train(parts, model, stopping);
    const Result resumed = weft_run({"train", "--resume", at(parts), "--quiet"});
    REQUIRE_MESSAGE(resumed.code == 0, resumed.err);
    CHECK(read_file(at(whole) + "/model.safetensors") == read_file(at(parts) + "/model.safetensors"));

    const Result eval = weft_run({"eval", "--model", at(whole), "--json"});
    REQUIRE_MESSAGE(eval.code == 0, eval.err);
    CHECK(eval.out.find("\"accuracy\"") != std::string::npos);
    std::string picture;
    for (const auto& file : fs::recursive_directory_iterator(fs::path(sample()) / "val"))
      if (file.is_regular_file()) picture = file.path().string();
    const Result predict = weft_run({"predict", "--model", at(whole), picture});
    CHECK_MESSAGE(predict.code == 0, predict.err);
    const fs::path example = fs::path(command({})[0]).parent_path() / "examples/predict_own";
    const Result own = Process({example.string(), at(whole) + "/model.safetensors", picture}).wait();
    REQUIRE_MESSAGE(own.code == 0, own.err);
    CHECK(lines_of(predict.out).at(1).ends_with("  " + lines_of(own.out).at(0)));
  }
}

TEST_CASE("what a model can't do is wrong usage") {
  const Result attention = train("x", "resnet20", {"--sa"});
  CHECK(attention.code == 2);
  CHECK(attention.err.find("resnet20 has no place for self-attention") != std::string::npos);
  const Result small = train("x", "mxresnet18-trick", {"--size", "32"});
  CHECK(small.code == 2);
  CHECK(small.err.find("at least 64 pixels") != std::string::npos);
  check_error(train("x", "vit-tiny", {"--size", "40"}), 2, {"--size 40", "multiples of 16; give 32 or 48"});
  check_error(weft_run({"bench", "step", "--model", "vit-tiny", "--size", "32,40"}), 2, {"--size 40"});
  const Result size = weft_run({"eval", "--model", at("whole-mlp"), "--size", "40"});
  CHECK(size.code == 2);
  CHECK(size.err.find("the size that it was trained on, 32") != std::string::npos);
}
