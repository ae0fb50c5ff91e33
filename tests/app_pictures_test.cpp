// Which pictures the weft command uses, and how it sees them: large JPEGs, broken pictures, other files.
#include <doctest/doctest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "support/command.h"
#include "weft/engine/file.h"

using nlohmann::json;
using weft::read_file;
using weft::write_file;
using namespace weft::test;

namespace {

/// A tiny sample set, made once.
const std::string& sample() {
  static const std::string path = make_sample(32, 6, 2);
  return path;
}

/// One epoch of a small model on `data`.
Arguments small_run(const std::string& data, const std::string& out) {
  return {"train",    "--data",    data,      "--size",   "32",   "--batch-size", "8",
          "--epochs", "1",         "--model", "resnet20", "--lr", "0.01",         "--optimizer",
          "sgd",      "--threads", "2",       "--out",    at(out)};
}

/// A run on the sample.
const std::string& trained() {
  static const std::string path = [] {
    const Result r = weft_run(small_run(sample(), "trained") + Arguments{"--quiet"});
    REQUIRE_MESSAGE(r.code == 0, r.err);
    return at("trained");
  }();
  return path;
}

}  // namespace

TEST_CASE("eval and predict see the same pixels of large JPEGs") {
  // Large enough to be decoded at a quarter of their size.
  REQUIRE(weft_run({"data", "sample", "--out", at("large"), "--pixels", "256", "--train-per-class", "1",
                    "--val-per-class", "2"})
              .code == 0);
  const Result eval = weft_run({"eval", "--model", trained(), "--data", at("large"), "--json"});
  REQUIRE_MESSAGE(eval.code == 0, eval.err);
  const json result = json::parse(eval.out);
  const std::vector<std::string> classes = result["classes"];
  Arguments predict = {"predict", "--model", trained(), "--top", "10", "--json"};
  std::vector<size_t> labels;
  for (size_t c = 0; c < classes.size(); ++c)
    for (const auto& entry : fs::directory_iterator(at("large/val/" + classes[c]))) {
      predict.push_back(entry.path().string());
      labels.push_back(c);
    }
  const Result predicted = weft_run(predict);
  REQUIRE_MESSAGE(predicted.code == 0, predicted.err);
  const std::vector<std::string> lines = lines_of(predicted.out);
  REQUIRE(lines.size() == labels.size());
  std::vector<std::vector<int64_t>> confusion(classes.size(), std::vector<int64_t>(classes.size()));
  double loss = 0;
  for (size_t i = 0; i < lines.size(); ++i) {
    const json top = json::parse(lines[i])["top"];
    const auto found = std::find(classes.begin(), classes.end(), top[0]["class"].get<std::string>());
    ++confusion[labels[i]][size_t(found - classes.begin())];
    for (const json& answer : top)
      if (answer["class"] == classes[labels[i]]) loss -= std::log(answer["probability"].get<double>());
  }
  CHECK(result["confusion"] == json(confusion));
  CHECK(loss / double(lines.size()) == doctest::Approx(result["loss"].get<double>()).epsilon(1e-5));
}
