// weft train, eval and predict on a GPU: an emulated one, or a real one (app_cuda_test_gpu). What the CPU
// computes is the measure; graphs of captured steps give the bits of single launches; resuming gives the bits
// of running through.
#include <doctest/doctest.h>

#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>

#include "support/command.h"
#include "weft/engine/safetensors.h"

using namespace weft::test;
using nlohmann::json;
using weft::read_file;

namespace {

/// A tiny sample set, made once: 30 pictures to train on, so three full batches of 10 an epoch.
const std::string& sample() {
  static const std::string path = make_sample(24, 3, 2);
  return path;
}

/// Trains in folder `name`, a small model where `more` names no other: on the emulated device most of the
/// time goes to the steps of the optimizer. Returns summary.json.
json train(const std::string& name, const Arguments& more) {
  Arguments all = {"train", "--data",      sample(),  "--out",        at(name),  "--size",
                   "16",    "--epochs",    "2",       "--batch-size", "10",      "--min-scale",
                   "0.7",   "--overwrite", "--quiet", "--model",      "resnet20"};
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
  const json cpu = train("cpu", {"--exact", "--model", "mxresnet18"});
  const json gpu = train("gpu", {"--exact", "--model", "mxresnet18", "--device", "cuda"});
  CHECK(gpu.at("device") == "cuda");
  CHECK(gpu.at("kernels") == "cuda");
  CHECK(gpu.at("final_train_loss").get<double>() ==
        doctest::Approx(cpu.at("final_train_loss").get<double>()).epsilon(1e-2));
  CHECK(distance("gpu", "cpu") < 2e-2);
}

TEST_CASE("a graph of captured steps gives the bits of single launches") {
  const auto same = [](const Arguments& more) {
    Arguments on = {"--device", "cuda", "--deterministic"};
    on.insert(on.end(), more.begin(), more.end());
    Arguments eager = on;
    eager.push_back("--eager");
    const json graph = train("graph", on);
    train("eager", eager);
    CHECK(model_of("graph") == model_of("eager"));
    CHECK(std::isfinite(graph.at("final_train_loss").get<double>()));
    if (WEFT_EMULATED) return;  // where the same threads come in the same order
    train("again", on);
    CHECK(model_of("graph") == model_of("again"));
  };
  same({"--precision", "bf16", "--model", "mxresnet18", "--sa", "--epochs", "1"});
  for (const char* precision : {"fp32", "fp16"}) {
    CAPTURE(precision);
    same({"--precision", precision});
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
      Arguments stopped = {"train",       "--data",       sample(),  "--out",
                           at("stopped"), "--size",       "16",      "--model",
                           "resnet20",    "--batch-size", "10",      "--min-scale",
                           "0.7",         "--overwrite",  "--quiet", "--stop-after-steps",
                           steps};
      stopped.insert(stopped.end(), on.begin(), on.end());
      CHECK(weft_run(stopped).code == 1);
      const Result r = weft_run({"train", "--resume", at("stopped"), "--quiet"});
      REQUIRE_MESSAGE(r.code == 0, r.err);
      CHECK(model_of("stopped") == model_of("through"));
    }
  }
}

TEST_CASE("optimizers of every kind train on the GPU") {
  std::vector<const char*> optimizers = {"adamw", "rangerlars",
                                         "muon"};  // by element, with norms, of matrices
  if (!WEFT_EMULATED)
    optimizers.insert(optimizers.end(), {"sgd", "adam", "radam", "ranger", "novograd", "lars", "amsgrad"});
  for (const char* optimizer : optimizers) {
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
  const double tolerance = WEFT_EMULATED ? 1e-3 : 1e-2;  // a real GPU has TF32
  CHECK(gpu.at("confusion") == cpu.at("confusion"));
  CHECK(gpu.at("loss").get<double>() == doctest::Approx(cpu.at("loss").get<double>()).epsilon(tolerance));
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
        doctest::Approx(here.at("probability").get<double>()).epsilon(tolerance));
}

namespace {

/// The JSON lines of a benchmark on the GPU; what all of them say is checked.
std::vector<json> bench(const std::string& name, const std::string& precision, const Arguments& more) {
  Arguments all = {"bench", name, "--device", "cuda", "--precision", precision, "--json"};
  all.insert(all.end(), more.begin(), more.end());
  const Result r = weft_run(all);
  REQUIRE_MESSAGE(r.code == 0, r.err);
  std::vector<json> rows;
  std::istringstream lines(r.out);
  for (std::string line; std::getline(lines, line);) {
    const json row = rows.emplace_back(json::parse(line));
    INFO(line);
    CHECK(row.at("bench") == name);
    CHECK(row.at("device") == "cuda");
    CHECK(row.at("device_name") != "");
    CHECK(row.at("precision") == precision);
    const auto check_share = [&](const char* share, const char* rate, const char* ceiling) {
      if (!row.contains(share)) return;
      CHECK(row.at(rate).get<double>() > 0);
      CHECK(row.at(ceiling).get<double>() > 0);
      CHECK(row.at(share).get<double>() ==
            doctest::Approx(row.at(rate).get<double>() / row.at(ceiling).get<double>()));
    };
    check_share("share_of_gemm", name == "step" ? "effective_gflops" : "gflops", "gemm_gflops");
    check_share("share_of_copy", "gigabytes_per_second", "copy_gigabytes_per_second");
  }
  CHECK(!rows.empty());
  return rows;
}

}  // namespace

TEST_CASE("bench step trains on the GPU, captured or not") {
  const auto captured = bench("step", "bf16",
                              {"--model", "resnet20", "--size", "16", "--batch-size", "2", "--activation",
                               "mish,relu", "--steps", "2"});
  REQUIRE(captured.size() == 2);
  CHECK(captured[1].at("activation") == "relu");
  for (const json& row : captured) {
    CHECK(row.at("images_per_second").get<double>() ==
          doctest::Approx(row.at("batch_size").get<double>() / row.at("step_seconds").get<double>()));
    CHECK(
        row.at("time_over_first").get<double>() ==
        doctest::Approx(row.at("step_seconds").get<double>() / captured[0].at("step_seconds").get<double>()));
    CHECK(row.at("graph_nodes").get<int64_t>() > 100);
    CHECK(row.at("share_of_gemm").get<double>() > 0);
    CHECK(row.at("eager") == false);
    CHECK(std::isfinite(row.at("loss").get<double>()));
    // Parameters, two moments and the slow weights in f32.
    CHECK(row.at("peak_memory_bytes").get<int64_t>() > row.at("parameters").get<int64_t>() * 16);
    CHECK(row.at("peak_memory_bytes").get<int64_t>() < row.at("parameters").get<int64_t>() * 32);
  }
  const auto eager =
      bench("step", "fp16",
            {"--model", "resnet20", "--size", "16", "--batch-size", "3", "--steps", "1", "--eager"});
  REQUIRE(eager.size() == 1);
  CHECK(eager[0].at("batch_size") == 3);
  CHECK(eager[0].at("graph_nodes") == 0);
  CHECK(eager[0].at("eager") == true);
  double shares = 0;
  bool forward = false, backward = false;
  for (const json& row :
       bench("step", "bf16",
             {"--model", "resnet20", "--size", "16", "--batch-size", "3", "--steps", "1", "--breakdown"})) {
    if (row.at("name") != "all" || row.at("pass") == "other") shares += row.at("share_of_step").get<double>();
    forward = forward || (row.at("name") == "conv2d" && row.at("pass") == "forward");
    backward = backward || (row.at("name") == "conv2d" && row.at("pass") == "backward");
  }
  CHECK(shares == doctest::Approx(1));
  CHECK(forward);
  CHECK(backward);
}

TEST_CASE("bench op measures every family on the GPU") {
  const auto op = [](const std::string& precision, const Arguments& more) {
    Arguments all = {"--size", "32", "--batch-size", "2", "--seconds", "1e-9"};
    all.insert(all.end(), more.begin(), more.end());
    return bench("op", precision, all);
  };
  const auto row_of = [](const std::vector<json>& rows, const std::string& shape, const std::string& pass) {
    for (const json& row : rows)
      if (row.at("shape") == shape && row.at("pass") == pass) return row;
    FAIL_CHECK("no ", shape, " ", pass);
    return json::object();
  };
  // A rate is work over time: bytes and multiply-adds are those of the shape.
  const auto work = [](const json& row, const char* rate) {
    return row.value(rate, 0.0) * row.value("milliseconds", 0.0) * 1e6;
  };
  const auto norm = op("bf16", {"--only", "norm", "--filter", "2x8x8x64"});
  const double n = 2 * 8 * 8 * 64;
  const std::string block_end = "2x8x8x64 train + residual + mish";
  CHECK(work(row_of(norm, block_end, "forward"), "gigabytes_per_second") == doctest::Approx(4 * 2 * n));
  CHECK(work(row_of(norm, block_end, "backward"), "gigabytes_per_second") == doctest::Approx(7 * 2 * n));
  CHECK(row_of(norm, block_end, "forward").at("count") == 2);

  const auto conv = op("bf16", {"--only", "conv", "--filter", "@8"});
  for (const char* pass : {"forward", "backward_input", "backward_weight"}) {
    const json row = row_of(conv, "64->64 3x3 @8", pass);
    CHECK(work(row, "gflops") == doctest::Approx(2 * 9 * 64 * n));
    CHECK(work(row, "gigabytes_per_second") == doctest::Approx(2 * (2 * n + 9 * 64 * 64)));
  }

  std::map<std::string, int> families;
  for (const char* filter : {"mish 2x", "relu 2x", "pool", "cross_entropy 2x", "bmm", "Attention", "add",
                             "sum", "dropout", "crop", "ranger"})
    for (const json& row : op("fp16", {"--model", "resnet20", "--only",
                                       "activation,pool,loss,matmul,attention,elementwise,reduce,"
                                       "dropout,augment,optimizer",
                                       "--filter", filter})) {
      ++families[row.at("family").get<std::string>()];
      CHECK(row.at("milliseconds").get<double>() >= 0);
    }
  CHECK(families.size() == 10);

  const auto eager = op("fp32", {"--only", "activation", "--filter", "relu 2x", "--eager"});
  CHECK(work(row_of(eager, "2x16x16x64", "forward"), "gigabytes_per_second") ==
        doctest::Approx(2 * 4 * 2 * 16 * 16 * 64));
}

TEST_CASE("bench optimizer, gemm and loader measure on the GPU") {
  for (const char* way : {"--json", "--eager"}) {
    const auto steps = bench("optimizer", "bf16",
                             {"--model", "resnet20", "--optimizer", "ranger,lars", "--seconds", "1e-9", way});
    REQUIRE(steps.size() == 2);
    CHECK(steps[0].at("optimizer") == "ranger");
    CHECK(steps[0].at("megabytes").get<double>() * 1e6 ==
          doctest::Approx(steps[0].at("parameters").get<double>() * 7 * 4).epsilon(1e-3));
    CHECK(steps[1].at("share_of_copy").get<double>() > 0);

    const auto batches = bench(
        "loader", "bf16", {"--data", sample(), "--size", "16", "--batch-size", "8", "--steps", "5", way});
    REQUIRE(batches.size() == 1);
    CHECK(batches[0].at("images") == 40);
    CHECK(batches[0].at("resident_bytes").get<int64_t>() >= 30 * 24 * 24 * 3);
    for (const char* key : {"batches_per_second", "images_per_second", "uploading_images_per_second"})
      CHECK_MESSAGE(batches[0].at(key).get<double>() > 0, key);
  }
  for (const char* precision : {"fp32", "bf16", "fp16"}) {
    double best = 0;
    for (const json& row : bench("gemm", precision, {"--seconds", "1e-9"})) {
      const double n = row.at("n").get<double>();
      CHECK(row.at("gflops").get<double>() ==
            doctest::Approx(2 * n * n * n / row.at("seconds").get<double>() * 1e-9));
      best = std::max(best, row.at("share_of_gemm").get<double>());
    }
    CHECK(best == 1);
  }
}

TEST_CASE("what a GPU can't do is said") {
  check_error(weft_run({"bench", "gemm", "--precision", "fp16"}), 1, {"--precision fp16", "--device cuda"});
  check_error(weft_run({"train", "--device", "cuda:7"}), 1, {"there is no GPU of that number"});
  check_error(weft_run({"train", "--device", "gpu"}), 2, {"--device must be cpu or cuda[:i]"});
  check_error(weft_run({"train", "--precision", "fp16"}), 1, {"--precision fp16", "--device cuda"});
  check_error(weft_run({"train", "--data", sample(), "--out", at("diverged"), "--size", "16", "--batch-size",
                        "10", "--quiet", "--device", "cuda", "--lr", "1e30", "--epochs", "3"}),
              1, {"training diverged", "--lr"});
}
