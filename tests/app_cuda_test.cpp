// weft train, eval and predict on a GPU: an emulated one, or a real one (app_cuda_test_gpu). What the CPU
// computes is the measure; graphs of captured steps give the bits of single launches; resuming gives the bits
// of running through.
#include <doctest/doctest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "support/command.h"
#include "weft/engine/safetensors.h"

using namespace weft::test;
using nlohmann::json;
using weft::read_file;

namespace {

/// A tiny sample set, made once: 30 pictures to train on, so three full batches of 10 an epoch.
const std::string& sample() {
  static const std::string path = [] {
    const Result r = weft_run({"data", "sample", "--out", at("sample"), "--pixels", "24", "--train-per-class",
                               "5", "--val-per-class", "2"});
    REQUIRE_MESSAGE(r.code == 0, r.err);
    return at("sample");
  }();
  return path;
}

/// Trains in folder `name`; returns summary.json.
json train(const std::string& name, const Arguments& more) {
  Arguments all = {"train",  "--data",      sample(),   "--out",       at(name),
                   "--size", "16",          "--epochs", "2",           "--batch-size",
                   "10",     "--min-scale", "0.7",      "--overwrite", "--quiet"};
  all.insert(all.end(), more.begin(), more.end());
  const Result r = weft_run(all);
  REQUIRE_MESSAGE(r.code == 0, r.err);
  return json::parse(read_file(at(name) + "/summary.json"));
}

std::string model_of(const std::string& name) { return read_file(at(name) + "/model.safetensors"); }

/// |a - b| / |b| over all weights.
double distance(const std::string& a, const std::string& b) {
  const auto one = weft::load_safetensors(at(a) + "/model.safetensors"),
             two = weft::load_safetensors(at(b) + "/model.safetensors");
  REQUIRE(one.size() == two.size());
  double difference = 0, norm = 0;
  for (size_t t = 0; t < one.size(); ++t) {
    const auto x = one[t].second.to_vector<float>(), y = two[t].second.to_vector<float>();
    REQUIRE(x.size() == y.size());
    for (size_t i = 0; i < x.size(); ++i) {
      difference += std::pow(double(x[i]) - double(y[i]), 2);
      norm += std::pow(double(y[i]), 2);
    }
  }
  return std::sqrt(difference / norm);
}

}  // namespace

TEST_CASE("training in f32 is the CPU's, to rounding") {
  const json cpu = train("cpu", {"--exact"});
  const json gpu = train("gpu", {"--exact", "--device", "cuda"});
  CHECK(gpu.at("device") == "cuda");
  CHECK(gpu.at("kernels") == "cuda");
  CHECK(gpu.at("final_train_loss").get<double>() ==
        doctest::Approx(cpu.at("final_train_loss").get<double>()).epsilon(1e-2));
  CHECK(distance("gpu", "cpu") < 2e-2);
}

TEST_CASE("a graph of captured steps gives the bits of single launches") {
  for (const char* precision : {"fp32", "bf16", "fp16"}) {
    CAPTURE(precision);
    const Arguments on = {"--device",        "cuda",     "--precision", precision,
                          "--deterministic", "--epochs", "4",           "--sa"};
    Arguments eager = on;
    eager.push_back("--eager");
    const json graph = train("graph", on);
    train("eager", eager);
    CHECK(model_of("graph") == model_of("eager"));
    CHECK(std::isfinite(graph.at("final_train_loss").get<double>()));
    train("again", on);
    CHECK(model_of("graph") == model_of("again"));
  }
}

TEST_CASE("mixed precision comes near f32") {
  const Arguments base = {"--device", "cuda", "--deterministic", "--epochs", "3", "--lr", "1e-3"};
  const auto loss = [&](const std::string& precision) {
    Arguments all = base;
    all.insert(all.end(), {"--precision", precision});
    return train("mixed-" + precision, all).at("final_train_loss").get<double>();
  };
  const double full = loss("fp32");
  CHECK(loss("bf16") == doctest::Approx(full).epsilon(0.05));
  CHECK(loss("fp16") == doctest::Approx(full).epsilon(0.05));
}

TEST_CASE("a stopped run goes on to the same bits") {
  for (const char* precision : {"fp32", "fp16"}) {
    CAPTURE(precision);
    const Arguments on = {"--device", "cuda", "--precision", precision, "--deterministic",
                          "--epochs", "3",    "--mixup",     "0.2"};
    train("through", on);
    for (const char* steps : {"4", "6"}) {
      Arguments stopped = {
          "train",        "--data", sample(),      "--out", at("stopped"), "--size",  "16",
          "--batch-size", "10",     "--min-scale", "0.7",   "--overwrite", "--quiet", "--stop-after-steps",
          steps};
      stopped.insert(stopped.end(), on.begin(), on.end());
      CHECK(weft_run(stopped).code == 1);
      const Result r = weft_run({"train", "--resume", at("stopped"), "--quiet"});
      REQUIRE_MESSAGE(r.code == 0, r.err);
      CHECK(model_of("stopped") == model_of("through"));
    }
  }
}

TEST_CASE("every optimizer trains on the GPU") {
  for (const char* optimizer :
       {"sgd", "adam", "adamw", "radam", "ranger", "novograd", "lars", "rangerlars"}) {
    CAPTURE(optimizer);
    const json r = train("optimizer", {"--device", "cuda", "--precision", "bf16", "--optimizer", optimizer,
                                       "--lr", "1e-3", "--epochs", "1"});
    CHECK(std::isfinite(r.at("final_train_loss").get<double>()));
  }
}

TEST_CASE("eval and predict give the CPU's answers on the GPU") {
  train("model", {"--epochs", "2"});
  const auto eval = [](const Arguments& more) {
    Arguments all = {"eval", "--model", at("model"), "--data", sample(), "--batch-size", "7", "--json"};
    all.insert(all.end(), more.begin(), more.end());
    const Result r = weft_run(all);
    REQUIRE_MESSAGE(r.code == 0, r.err);
    return json::parse(r.out);
  };
  const json cpu = eval({}), gpu = eval({"--device", "cuda"});
  CHECK(gpu.at("confusion") == cpu.at("confusion"));
  CHECK(gpu.at("loss").get<double>() == doctest::Approx(cpu.at("loss").get<double>()).epsilon(1e-3));
  CHECK(eval({"--device", "cuda", "--precision", "bf16"}).at("loss").get<double>() ==
        doctest::Approx(cpu.at("loss").get<double>()).epsilon(5e-2));

  std::string picture;
  for (const auto& file : fs::recursive_directory_iterator(sample()))
    if (file.is_regular_file() && file.path().extension() != ".json") picture = file.path().string();
  const auto predict = [&](const Arguments& more) {
    Arguments all = {"predict", "--model", at("model"), "--json", "--top", "1"};
    all.insert(all.end(), more.begin(), more.end());
    all.push_back(picture);
    const Result r = weft_run(all);
    REQUIRE_MESSAGE(r.code == 0, r.err);
    return json::parse(r.out).at("top").at(0);
  };
  const json here = predict({}), there = predict({"--device", "cuda"});
  CHECK(there.at("class") == here.at("class"));
  CHECK(there.at("probability").get<double>() ==
        doctest::Approx(here.at("probability").get<double>()).epsilon(1e-3));
}

TEST_CASE("what a GPU can't do is said") {
  check_error(weft_run({"train", "--device", "cuda:7"}), 1, {"there is no GPU of that number"});
  check_error(weft_run({"train", "--device", "gpu"}), 2, {"--device must be cpu or cuda[:i]"});
  check_error(weft_run({"train", "--precision", "bf16"}), 1, {"--precision bf16", "--device cuda"});
  check_error(weft_run({"train", "--data", sample(), "--out", at("diverged"), "--size", "16", "--batch-size",
                        "10", "--quiet", "--device", "cuda", "--lr", "1e30", "--epochs", "3"}),
              1, {"training diverged", "--lr"});
}
