// Which pictures the weft command uses, and how it sees them: large JPEGs, broken pictures, other files.
#include <doctest/doctest.h>

#include <algorithm>
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

/// Its copy in which the pictures that `breaks(i)`, by their place in their class of training, are cut off.
std::string broken_copy(const std::string& name, bool (*breaks)(int)) {
  fs::copy(sample(), at(name), fs::copy_options::recursive);
  for (const auto& folder : fs::directory_iterator(at(name) + "/train")) {
    std::vector<std::string> files;
    for (const auto& file : fs::directory_iterator(folder.path())) files.push_back(file.path().string());
    std::sort(files.begin(), files.end());
    for (size_t i = 0; i < files.size(); ++i)
      if (breaks(int(i))) write_file(files[i], read_file(files[i]).substr(0, 200));
  }
  return at(name);
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

TEST_CASE("a batch that broken pictures leave a single one of is passed over") {
  const std::string data = broken_copy("few", [](int i) { return i == 3; });
  // A model whose last batch norms see a single pixel of a picture.
  const Result r = weft_run(small_run(data, "few-run") +
                            Arguments{"--model", "mxresnet18", "--batch-size", "2", "--quiet"});
  INFO(r.err);
  CHECK(r.code == 0);
  CHECK(has(r.err, "warning: 10 of 60 pictures of train cannot be decoded and are left out"));
  CHECK(json_file(at("few-run/summary.json"))["skipped_images"] == 10);
  // Where all are so there is nothing to train on.
  const std::string none = broken_copy("none", [](int i) { return i > 0; });
  fs::remove_all(none + "/train");
  fs::create_directories(none + "/train/ring");
  fs::copy(sample() + "/train/ring/ring_00000.JPEG", none + "/train/ring/a.JPEG");
  write_file(none + "/train/ring/b.JPEG", "no picture");
  for (const auto& folder : fs::directory_iterator(none + "/val"))
    if (folder.path().filename() != "ring") fs::remove_all(folder.path());
  const Result failed = weft_run(small_run(none, "none-run") + Arguments{"--batch-size", "2", "--quiet"});
  CHECK(failed.code == 1);
  CHECK(has(failed.err, "weft: warning: 1 of 2 pictures of train cannot be decoded"));
  CHECK(has(failed.err, "weft: data: no batch of train has 2 pictures that can be decoded"));
}

TEST_CASE("pictures that are left out are told of before an error ends the run") {
  const std::string data = broken_copy("half", [](int i) { return i % 2 == 0; });
  const Result r = weft_run(small_run(data, "diverged") + Arguments{"--lr", "1e30", "--quiet"});
  CHECK(r.code == 1);
  const size_t warning = r.err.find("cannot be decoded and are left out"), error = r.err.find("diverged;");
  INFO(r.err);
  CHECK(warning != std::string::npos);
  CHECK(error != std::string::npos);
  CHECK(warning < error);
}

TEST_CASE("every warning is weft's own, and none names what only a program can set") {
  const std::string data = broken_copy("bench", [](int i) { return i == 3; });
  const Result r = weft_run({"bench", "loader", "--data", data, "--size", "32", "--batch-size", "8",
                             "--steps", "1", "--threads", "1"});
  CHECK(r.code == 0);
  CHECK(has(r.err, "cannot be decoded"));
  for (const std::string& line : lines_of(r.err)) CHECK(line.rfind("weft: warning: ", 0) == 0);

  std::string huge = read_file(data + "/val/ring/ring_00000.JPEG");
  const size_t frame = huge.find("\xff\xc0");
  REQUIRE(frame != std::string::npos);
  huge.replace(frame + 5, 4, "\xfa\xfa\xfa\xfa");  // height and width
  write_file(at("huge.jpg"), huge);
  const Result predicted = weft_run({"predict", "--model", trained(), at("huge.jpg")});
  check_error(predicted, 1, {"64250 x 64250 pixels is more than the limit", "smaller"});
  CHECK(!has(predicted.err, "DecodeOptions"));
}

TEST_CASE("control characters in names do not reach the terminal") {
  const std::string data = at("odd-names"), escape = "a\x1b[31m\tb\xc2\x9b";
  fs::copy(sample(), data, fs::copy_options::recursive);
  for (const char* split : {"/train/", "/val/"}) fs::rename(data + split + "ring", data + split + escape);
  write_file(data + "/train/" + escape + "/bad.jpg", "no picture");
  const Result run = weft_run(small_run(data, "odd-run") + Arguments{"--quiet"});
  CHECK(run.code == 0);
  const Result verify = weft_run({"data", "verify", data});
  const Result eval = weft_run({"eval", "--model", at("odd-run")});
  const Result predict = weft_run(
      {"predict", "--model", at("odd-run"), "--top", "10", data + "/val/" + escape + "/ring_00000.JPEG"});
  for (const std::string& text : {run.err, verify.out, verify.err, eval.out, predict.out}) {
    INFO(text);
    for (const char* raw : {"\x1b", "\t", "\xc2\x9b"}) CHECK(!has(text, raw));
  }
  for (const std::string& text : {run.err, verify.out, eval.out, predict.out})
    CHECK_MESSAGE(has(text, R"(a\x1b[31m\x09b\x9b)"), text);
}
