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

TEST_CASE("files in class folders that are no pictures are told of, and refused with --strict") {
  const std::string data = at("webp");
  fs::copy(sample(), data, fs::copy_options::recursive);
  write_file(data + "/train/notes.txt", "in no class folder");
  write_file(data + "/train/ring/.hidden", "");
  write_file(data + "/labels.csv", "path,noise\n");
  const Result silent = weft_run(small_run(data, "silent") + Arguments{"--json"});
  CHECK(silent.code == 0);
  CHECK(silent.err == "");
  CHECK(json::parse(lines_of(silent.out)[0])["ignored_files"] == 0);

  for (const char* name : {"1", "2", "3"}) write_file(data + "/train/ring/" + name + ".webp", "");
  for (const char* split : {"train", "val"}) {
    fs::create_directories(data + "/" + split + "/squirrel");
    write_file(data + "/" + split + "/squirrel/a.bmp", "");
  }
  fs::create_directories(data + "/train/nothing");
  const Result warned = weft_run(small_run(data, "warned") + Arguments{"--json"});
  CHECK(warned.code == 0);
  check_error({1, "", warned.err}, 1,
              {"weft: warning: 5 files in class folders of " + data, ".jpg, .jpeg or .png",
               "train/ring/1.webp, train/ring/2.webp, train/ring/3.webp, ...",
               "3 class folders have no picture: train/nothing, train/squirrel, val/squirrel"});
  const json start = json::parse(lines_of(warned.out)[0]);
  CHECK(start["event"] == "start");
  CHECK(start["ignored_files"] == 5);
  CHECK(start["classes"] == 10);

  const Result eval = weft_run({"eval", "--model", trained(), "--data", data, "--json"});
  CHECK(eval.code == 0);
  check_error({1, "", eval.err}, 1, {"warning: 1 file in class folders", "val/squirrel/a.bmp"});
  CHECK(json::parse(eval.out)["ignored_files"] == 1);
  const Result lab = weft_run({"lab", "lr-find", "--data", data, "--size", "32", "--batch-size", "8",
                               "--model", "mlp", "--steps", "2", "--quiet"});
  check_error({1, "", lab.err}, 1, {"warning: 5 files in class folders"});

  const Arguments strict = {"--strict", "--quiet"};
  check_error(weft_run(small_run(data, "strict") + strict), 1,
              {"5 files in class folders", "convert or remove them", "--strict"});
  CHECK(!fs::exists(at("strict")));
  check_error(weft_run({"eval", "--model", trained(), "--data", data, "--strict"}), 1,
              {"val/squirrel/a.bmp"});
}
