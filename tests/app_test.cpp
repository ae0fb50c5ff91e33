// The weft command as scripts meet it: flags, files, exit codes, one clear line for every error, exact
// resume.
#include <doctest/doctest.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>

#include "support/command.h"
#include "weft/apps/weft/run_files.h"
#include "weft/engine/file.h"
#include "weft/engine/safetensors.h"
#include "weft/kernels/activation.h"
#include "weft/kernels/cuda.h"
#include "weft/kernels/precision.h"
#include "weft/optim/registry.h"

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

/// Its copy with one training picture cut off in the middle.
const std::string& broken_sample() {
  static const std::string path = [] {
    fs::copy(sample(), at("broken"), fs::copy_options::recursive);
    const std::string file = at("broken/train/ring/ring_00003.JPEG");
    const std::string whole = read_file(file);
    write_file(file, whole.substr(0, whole.size() / 2));
    return at("broken");
  }();
  return path;
}

/// 7 steps an epoch. With everything on that draws random numbers or keeps state.
Arguments full_run(const std::string& out) {
  return {"train", "--data",  sample(), "--size",    "32", "--batch-size", "8",     "--sa", "--epochs",
          "2",     "--mixup", "0.4",    "--threads", "2",  "--json",       "--out", at(out)};
}

/// The same data for one epoch of a small model.
Arguments quick_run(const std::string& out) {
  return {"train",    "--data",    sample(),  "--size",   "32",          "--batch-size", "8",
          "--epochs", "1",         "--model", "resnet20", "--optimizer", "sgd",          "--lr",
          "0.01",     "--threads", "2",       "--out",    at(out)};
}

/// The run that others are compared with.
const Result& reference() {
  static const Result r = weft_run(full_run("reference"));
  return r;
}

/// metrics.csv without its two columns that tell time.
std::vector<std::string> timeless_metrics(const std::string& run) {
  std::vector<std::string> lines = lines_of(read_file(at(run) + "/metrics.csv"));
  for (std::string& line : lines)
    for (int i = 0; i < 2; ++i) line = line.substr(0, line.rfind(','));
  return lines;
}

}  // namespace

TEST_CASE("help and version") {
  const Result help = weft_run({"--help"});
  CHECK(help.code == 0);
  for (const char* name : {"train", "eval", "predict", "export", "data", "bench", "lab"}) {
    CHECK(has(help.out, name));
    CHECK(weft_run({name, "--help"}).code == 0);
  }
  const std::string train = weft_run({"train", "--help"}).out;
  for (const char* flag : {"--data",         "--out",          "--model",
                           "--activation",   "--sa",           "--sym",
                           "--size",         "--epochs",       "--batch-size",
                           "--optimizer",    "--lr",           "--mom",
                           "--sqrmom",       "--eps",          "--wd",
                           "--schedule",     "--anneal-start", "--label-smoothing",
                           "--min-scale",    "--mixup",        "--runs",
                           "--seed",         "--threads",      "--device",
                           "--precision",    "--resume",       "--config",
                           "--noisy-labels", "--quiet",        "--json",
                           "--cache-bytes",  "--recompute",    "--loss",
                           "--focal-gamma",  "--cutmix",       "--erase",
                           "--jitter",       "--no-flip",      "--pad"})
    CHECK_MESSAGE(has(train, flag), flag);
  for (const char* part : {"probability 1/2 [on]", "lr/10", "lr/1e5"}) CHECK_MESSAGE(has(train, part), part);
  CHECK(has(train, "implies --sa) [off]"));
  const std::string depth = weft_run({"lab", "depth", "--help"}).out;
  CHECK(has(depth, "probability 1/2 [off]"));
  const std::string find = weft_run({"lab", "lr-find", "--help"}).out;
  CHECK(has(find, "--mom "));
  // What has no part in a command.
  for (const char* flag : {"--model ", "--activation "}) CHECK_MESSAGE(!has(depth, flag), flag);
  for (const char* flag : {"--epochs ", "--schedule ", "--anneal-start ", "--lr ", "--runs "})
    CHECK_MESSAGE(!has(find, flag), flag);
  CHECK(has(weft_run({"--version"}).out, "weft "));
}

TEST_CASE("wrong usage ends with 2 and names what is known") {
  check_error(weft_run({}), 2, {"--help"});
  check_error(weft_run({"trian"}), 2, {"unknown command trian", "train, eval"});
  check_error(weft_run({"lab", "weather"}), 2, {"unknown command weather", "activations"});
  check_error(weft_run({"train", "--seed", "-1"}), 2, {"--seed", "-1"});
  check_error(weft_run({"train", "--seed", "18446744073709551616"}), 2, {"--seed"});
  check_error(weft_run({"train", "--seed", "010"}), 2, {"--seed", "010"});  // not 8
  check_error(weft_run({"bench", "step", "--batch-size", "8,064"}), 2, {"--batch-size", "064"});
  check_error(weft_run({"train", "--sym", "--no-sa"}), 2, {"--sym", "--no-sa"});
  check_error(weft_run({"train", "--quiet", "--json"}), 2, {"--quiet", "--json"});
  check_error(weft_run({"train", "--trace-nan", "--precision", "fp16"}), 2, {"--trace-nan", "fp16"});
  for (const char* flag : {"--wd", "--mom", "--epochs", "--seed", "--threads", "--checkpoint-steps"})
    check_error(weft_run({"train", flag, ""}), 2, {flag, "empty"});
  check_error(weft_run({"train", "--wd="}), 2, {"--wd"});
  check_error(weft_run({"bench", "step", "--batch-size", ""}), 2, {"--batch-size", "empty"});
  for (const char* flag : {"--checkpoint-steps", "--cache-bytes"})
    check_error(weft_run({"train", flag, "-1"}), 2, {flag, "must be 0 or more, got -1 (see"});
  for (const char* flag : {"--start-lr", "--end-lr"})
    for (const char* rate : {"0", "-1", "nan", "inf"})
      check_error(weft_run({"lab", "lr-find", flag, rate}), 2,
                  {flag, "must be above 0, and 1e30 at most, got"});
  check_error(weft_limited("export WEFT_THREADS=100000", {"train"}), 1,
              {"WEFT_THREADS", "100000", "1 to 256"});
  for (const char* flag : {"--resume", "--config", "--out"})
    check_error(weft_run({"train", flag, ""}), 2, {flag, "empty"});
  check_error(weft_run({"train", "--resume", at("a"), "--overwrite"}), 2, {"--overwrite"});
  check_error(weft_run({"train", "--data", at("\xff")}), 2, {"--data", "UTF-8"});
  check_error(weft_run({"train", "--lerning-rate", "1"}), 2, {"--lerning-rate"});
  check_error(weft_run({"train", "--epochs", "many"}), 2, {"--epochs: many is no number"});
  check_error(weft_run({"train", "--epochs", "8.5"}), 2, {"--epochs: 8.5 is no whole number"});
  check_error(weft_run({"train", "--lr", "abc"}), 2, {"--lr: abc is no number"});
  check_error(weft_run({"train", "--epochs", "0"}), 2, {"--epochs"});
  check_error(weft_run({"train", "--model", "resnet18"}), 2, {"resnet18", "mxresnet18", "xresnet152"});
  check_error(weft_run({"train", "--optimizer", "adagad"}), 2, {"adagad", "ranger", "novograd", "lars"});
  check_error(weft_run({"train", "--activation", "smish"}), 2, {"smish", "mish", "relu"});
  check_error(weft_run({"train", "--schedule", "linear"}), 2, {"linear", "flat-cosine", "one-cycle"});
  // One-cycle has a momentum of its own.
  for (const char* mom : {"0.9", "0.95"})
    check_error(weft_run({"train", "--data", at("none"), "--schedule", "one-cycle", "--mom", mom}), 2,
                {"--mom " + std::string(mom), "--schedule one-cycle", "leave it out"});
  write_file(at("cycle.json"), "{\"schedule\": \"one-cycle\", \"mom\": 0.8}");
  check_error(weft_run({"train", "--data", at("none"), "--config", at("cycle.json")}), 2,
              {"cycle.json: \"mom\" 0.8", "--schedule one-cycle"});
  check_error(weft_run({"train", "--noisy-labels", "table.csv"}), 2, {"CSV:COLUMN"});
  check_error(weft_run({"bench", "step", "--model", "vgg"}), 2, {"vgg", "mxresnet50"});
  for (const char* seconds : {"0", "-1", "nan", "1e300"})
    check_error(weft_run({"bench", "gemm", "--seconds", seconds}), 2, {"--seconds", "at most 86400"});
  check_error(weft_run({"data", "sample", "--out", at("x"), "--train-per-class", "100001"}), 2,
              {"--train-per-class", "1 to 100000"});
  check_error(weft_run({"data", "sample", "--out", at("x"), "--seed", "-1"}), 2, {"--seed", "-1"});
  for (const char* device : {"gpu", "cuda:x", "cuda:"})
    for (const Arguments& command :
         {Arguments{"train"}, Arguments{"eval", "--model", at("nothing")},
          Arguments{"predict", "--model", at("nothing"), "x.png"}, Arguments{"bench", "gemm"}})
      check_error(weft_run(command + Arguments{"--device", device}), 2,
                  {"--device must be cpu or cuda[:i]", device});
  check_error(weft_run({"data", "fetch", "imagenet"}), 2, {"imagenet", "imagewoof2-160"});
  check_error(weft_run({"predict", "--model", at("nothing")}), 2, {"images"});
  check_error(weft_run({"train", "--resume", at("a"), "--out", at("b")}), 2, {"--out"});
}

TEST_CASE("what this build lacks is said plainly") {
  if (weft::kernels::cuda::device_count() == 0) {
    check_error(weft_run({"train", "--device", "cuda"}), 1, {"device \"cuda\" can't be used: "});
    check_error(weft_run({"train", "--device", "cuda:1"}), 1, {"device \"cuda:1\" can't be used: "});
  }
  for (const Arguments& command :
       {Arguments{"train"}, Arguments{"eval", "--model", at("nothing")},
        Arguments{"predict", "--model", at("nothing"), "x.png"}, Arguments{"bench", "gemm"}})
    check_error(weft_run(command + Arguments{"--precision", "fp16"}), 1,
                {"--precision fp16", "--device cuda"});
  check_error(weft_run({"train", "--precision", "bf16", "--exact"}), 2, {"--exact", "--precision bf16"});
}

TEST_CASE("--precision bf16 on the CPU: products round where the processor is faster for it") {
  const Arguments rounded = {"--precision", "bf16", "--model", "mxresnet50"},
                  plain = {"--model", "mxresnet50"};
  if (!weft::cpu_multiplies_bf16()) {
    MESSAGE("only the error: these kernels do not multiply bf16");
    check_error(weft_run(full_run("bf16") + rounded), 1, {"--precision bf16", "AVX-512 BF16", "fp32"});
    return;
  }
  REQUIRE(weft_run(full_run("bf16") + rounded).code == 0);
  REQUIRE(weft_run(full_run("fp32") + plain).code == 0);
  CHECK(json_file(at("bf16/config.json")).at("precision") == "bf16");
  const auto loss = [](const char* run) {
    return json_file(at(run) + "/summary.json").at("final_train_loss").get<double>();
  };
  CHECK(loss("bf16") != loss("fp32"));
  CHECK(loss("bf16") == doctest::Approx(loss("fp32")).epsilon(0.05));
  // Stopped and gone on with, on another number of threads.
  CHECK(weft_run(full_run("stopped-bf16") + rounded + Arguments{"--stop-after-steps", "5"}).code == 1);
  REQUIRE(weft_run({"train", "--resume", at("stopped-bf16"), "--threads", "1", "--quiet"}).code == 0);
  CHECK(read_file(at("stopped-bf16/model.safetensors")) == read_file(at("bf16/model.safetensors")));
  const auto eval = [](const char* precision) {
    const Result r = weft_run({"eval", "--model", at("bf16"), "--precision", precision, "--json"});
    INFO(r.err);
    REQUIRE(r.code == 0);
    return json::parse(r.out).at("loss").get<double>();
  };
  CHECK(eval("bf16") != eval("fp32"));
  CHECK(eval("bf16") == doctest::Approx(eval("fp32")).epsilon(0.05));
}

TEST_CASE("a run writes its files") {
  const Result& r = reference();
  INFO(r.err);
  REQUIRE(r.code == 0);
  CHECK(r.err == "");
  const std::string run = at("reference");

  const std::vector<std::string> csv = lines_of(read_file(run + "/metrics.csv"));
  REQUIRE(csv.size() == 3);
  CHECK(csv[0] == "epoch,train_loss,val_loss,val_accuracy,lr,seconds,images_per_second");
  CHECK(csv[1].rfind("1,", 0) == 0);
  CHECK(csv[2].rfind("2,", 0) == 0);

  const json summary = json_file(run + "/summary.json");
  for (const char* key : {"final_val_accuracy", "best_val_accuracy", "parameters", "seconds",
                          "images_per_second", "peak_memory_bytes", "weft_version"})
    CHECK_MESSAGE(summary.contains(key), key);
  CHECK(summary["best_val_accuracy"] >= summary["final_val_accuracy"]);
  CHECK(summary["parameters"] > 11'000'000);
  CHECK(summary["peak_memory_bytes"] > 50'000'000);
  CHECK(summary["images_per_second"] > 0.0);

  const json config = json_file(run + "/config.json");
  CHECK(config["model"] == "mxresnet18");
  CHECK(config["activation"] == "mish");
  CHECK(config["optimizer"] == "ranger");
  CHECK(config["lr"] == 4e-3);
  CHECK(config["mom"] == 0.95);
  CHECK(config["sqrmom"] == 0.99);
  CHECK(config["eps"] == 1e-6);
  CHECK(config["wd"] == 1e-2);
  CHECK(config["schedule"] == "flat-cosine");
  CHECK(config["anneal_start"] == 0.72);
  CHECK(config["label_smoothing"] == 0.1);
  CHECK(config["min_scale"] == 0.35);
  CHECK(config["seed"] == 42);
  CHECK(config["mixup"] == 0.4);
  CHECK(config["sa"] == true);

  std::vector<std::string> events;
  for (const std::string& line : lines_of(r.out)) events.push_back(json::parse(line).at("event"));
  CHECK(events == std::vector<std::string>{"start", "epoch", "epoch", "end"});
  CHECK(weft::find(weft::load_safetensors(run + "/model.safetensors"), "head.weight").defined());
  CHECK(weft::load_safetensors(run + "/checkpoint.safetensors").size() > 100);
  CHECK(std::distance(fs::directory_iterator(run), fs::directory_iterator()) ==
        5);  // no temporary file is left
}

TEST_CASE("a run stopped anywhere goes on bit for bit") {
  REQUIRE(reference().code == 0);
  const std::string wanted = read_file(at("reference/model.safetensors"));
  // Between two steps, on other numbers of threads, and interrupted again at the end of an epoch's training.
  // The cache of decoded images changes nothing either.
  CHECK(weft_run(full_run("stopped") + Arguments{"--stop-after-steps", "3", "--cache-bytes", "0"}).code == 1);
  CHECK(!fs::exists(at("stopped/model.safetensors")));

  SUBCASE("resumed") {
    CHECK(
        weft_run({"train", "--resume", at("stopped"), "--threads", "1", "--stop-after-steps", "7", "--quiet"})
            .code == 1);
    CHECK(timeless_metrics("stopped").size() == 1);
    const Result rest =
        weft_run({"train", "--resume", at("stopped"), "--threads", "3", "--cache-bytes", "100000"});
    INFO(rest.err);
    REQUIRE(rest.code == 0);
    CHECK(has(rest.out, "validation accuracy"));
    CHECK(has(rest.out, at("stopped/model.safetensors")));
    CHECK(read_file(at("stopped/model.safetensors")) == wanted);
    CHECK(timeless_metrics("stopped") == timeless_metrics("reference"));
    // Once more: nothing is left to do, nothing changes.
    const std::string summary = read_file(at("stopped/summary.json"));
    const auto written = fs::last_write_time(at("stopped/metrics.csv"));
    const Result done = weft_run({"train", "--resume", at("stopped")});
    CHECK(done.code == 0);
    CHECK(has(done.out, "nothing is left to do"));
    CHECK(!has(done.out, "wrote"));
    CHECK(fs::last_write_time(at("stopped/metrics.csv")) == written);
    CHECK(read_file(at("stopped/summary.json")) == summary);
    CHECK(read_file(at("stopped/model.safetensors")) == wanted);
  }
  SUBCASE("refused where it does not fit") {
    check_error(weft_run({"train", "--resume", at("stopped"), "--model", "mxresnet34"}), 2, {"--model"});
    // Its data have moved.
    const std::string settings = read_file(at("stopped/config.json"));
    json moved = json::parse(settings);
    moved["data"] = at("gone");
    write_file(at("stopped/config.json"), moved.dump());
    check_error(weft_run({"train", "--resume", at("stopped")}), 1, {at("gone"), "--data"});
    fs::copy(at("reference/model.safetensors"), at("stopped/model.safetensors"));
    check_error(weft_run({"eval", "--model", at("stopped")}), 1, {at("gone"), "--data"});
    fs::remove(at("stopped/model.safetensors"));
    write_file(at("stopped/config.json"), settings);
    // The checkpoint of another run: links spare a copy.
    for (const char* name : {"other", "foreign", "cut"}) fs::create_directories(at(name));
    json config = json_file(at("stopped/config.json"));
    write_file(at("foreign/config.json"), config.dump());
    write_file(at("cut/config.json"), config.dump());
    config["model"] = "xresnet34";
    write_file(at("other/config.json"), config.dump());
    fs::create_symlink(at("stopped/checkpoint.safetensors"), at("other/checkpoint.safetensors"));
    fs::create_symlink(at("reference/model.safetensors"), at("foreign/checkpoint.safetensors"));
    write_file(at("cut/checkpoint.safetensors"),
               read_file(at("stopped/checkpoint.safetensors")).substr(0, 100'000));
    check_error(weft_run({"train", "--resume", at("other"), "--quiet"}), 1,
                {"other/checkpoint.safetensors", "--model"});
    check_error(weft_run({"train", "--resume", at("foreign"), "--quiet"}), 1,
                {"foreign/checkpoint.safetensors"});
    check_error(weft_run({"train", "--resume", at("cut"), "--quiet"}), 1, {"cut/checkpoint.safetensors"});
    // Fewer pictures than before.
    fs::copy(sample(), at("fewer"), fs::copy_options::recursive);
    fs::remove(at("fewer/train/ring/ring_00003.JPEG"));
    check_error(weft_run({"train", "--resume", at("stopped"), "--data", at("fewer"), "--quiet"}), 1,
                {"stopped/checkpoint.safetensors", "60 training", "59 training"});
    // A history that lacks what it counts.
    std::map<std::string, std::string> metadata;
    const auto tensors = weft::load_safetensors(at("stopped/checkpoint.safetensors"), &metadata);
    json state = json::parse(metadata["state"]);
    state["epoch"] = 3;
    metadata["state"] = state.dump();
    fs::remove(at("foreign/checkpoint.safetensors"));  // a link
    weft::save_safetensors(at("foreign/checkpoint.safetensors"), tensors, metadata);
    check_error(weft_run({"train", "--resume", at("foreign"), "--quiet"}), 1,
                {"foreign/checkpoint.safetensors", "damaged"});
    check_error(weft_run({"train", "--resume", sample()}), 1, {sample(), "no run"});
  }
  fs::remove_all(at("stopped"));
}

TEST_CASE("--tensorboard writes each epoch's numbers as events, once") {
  const Arguments run =
      quick_run("events") + Arguments{"--model", "mlp", "--epochs", "2", "--tensorboard", "--quiet"};
  const auto times = [](const std::string& text) {
    const std::string events = read_file(at("events/events.out.tfevents.weft"));
    int64_t count = 0;
    for (size_t i = 0; (i = events.find(text, i)) != std::string::npos; ++i) ++count;
    return count;
  };
  CHECK(weft_run(run + Arguments{"--stop-after-steps", "9"}).code == 1);  // in the second epoch
  CHECK(times("accuracy/val") == 1);
  REQUIRE(weft_run({"train", "--resume", at("events"), "--tensorboard", "--quiet"}).code == 0);
  for (const char* tag : {"loss/train", "loss/val", "accuracy/val", "lr", "images_per_second"})
    CHECK_MESSAGE(times(tag) >= 2, tag);
  CHECK(times("accuracy/val") == 2);
  CHECK(times("brain.Event:2") == 1);
  REQUIRE(weft_run(quick_run("events") + Arguments{"--model", "mlp", "--overwrite", "--quiet"}).code == 0);
  CHECK(!fs::exists(at("events/events.out.tfevents.weft")));
}

TEST_CASE("a recomputed run ends with the same weights") {
  REQUIRE(reference().code == 0);
  const Result r = weft_run(full_run("recomputed") + Arguments{"--recompute"});
  INFO(r.err);
  REQUIRE(r.code == 0);
  CHECK(json_file(at("recomputed/config.json"))["recompute"] == true);
  CHECK(read_file(at("recomputed/model.safetensors")) == read_file(at("reference/model.safetensors")));
  CHECK(timeless_metrics("recomputed") == timeless_metrics("reference"));
  fs::remove_all(at("recomputed"));
}

TEST_CASE("Ctrl-C ends after a checkpoint, and the run can go on") {
  REQUIRE(reference().code == 0);
  Process run(command(full_run("interrupted")));
  run.wait_for_output("\"start\"");
  run.signal(SIGINT);
  const Result r = run.wait();
  CHECK(r.code == 1);
  CHECK(has(r.out, "\"stopped\""));
  REQUIRE(fs::exists(at("interrupted/checkpoint.safetensors")));
  CHECK(!fs::exists(at("interrupted/summary.json")));
  REQUIRE(weft_run({"train", "--resume", at("interrupted"), "--quiet"}).code == 0);
  CHECK(read_file(at("interrupted/model.safetensors")) == read_file(at("reference/model.safetensors")));
  fs::remove_all(at("interrupted"));
}

TEST_CASE("several runs, and one of them again from its config.json") {
  const Result r = weft_run(quick_run("several") + Arguments{"--runs", "2", "--seed", "7"});
  INFO(r.err);
  REQUIRE(r.code == 0);
  CHECK(has(r.out, "(standard deviation) over 2 runs\n"));
  CHECK(has(r.out, "2 threads"));
  const json summary = json_file(at("several/summary.json"));
  const json one = json_file(at("several/run-1/summary.json")),
             two = json_file(at("several/run-2/summary.json"));
  const double a = one["final_val_accuracy"], b = two["final_val_accuracy"];
  CHECK(summary["runs"] == 2);
  CHECK(summary["mean_val_accuracy"].get<double>() == doctest::Approx((a + b) / 2));
  CHECK(summary["std_val_accuracy"].get<double>() == doctest::Approx(std::abs(a - b) / std::sqrt(2.0)));
  CHECK(summary["seed"] == 7);
  for (const char* key : {"final_val_accuracy", "final_val_loss", "final_train_loss"})
    CHECK(summary[key].get<double>() ==
          doctest::Approx((one[key].get<double>() + two[key].get<double>()) / 2));
  for (const char* key : {"seconds", "train_seconds"})
    CHECK(summary[key].get<double>() == doctest::Approx(one[key].get<double>() + two[key].get<double>()));
  const json& best = summary["best_run"] == 1 ? one : two;
  CHECK(summary["best_epoch"] == best["best_epoch"]);
  CHECK(summary["best_val_accuracy"] == std::max(one["best_val_accuracy"], two["best_val_accuracy"]));
  CHECK(summary["best_val_accuracy"] == best["best_val_accuracy"]);
  check_error(weft_run({"eval", "--model", at("several")}), 1, {"several runs", "several/run-1 to run-2"});
  const Result done = weft_run({"train", "--resume", at("several")});
  CHECK(done.code == 0);
  CHECK(has(done.out, "nothing is left to do"));
  CHECK(!has(done.out, "wrote"));
  CHECK(json_file(at("several/run-1/config.json"))["seed"] == 7);
  CHECK(json_file(at("several/run-2/config.json"))["seed"] == 8);
  CHECK(fs::exists(at("several/config.json")));

  const Result again =
      weft_run({"train", "--config", at("several/run-2/config.json"), "--out", at("again"), "--quiet"});
  CHECK(again.code == 0);
  CHECK(again.out == "");
  CHECK(read_file(at("again/model.safetensors")) == read_file(at("several/run-2/model.safetensors")));
  CHECK(read_file(at("again/model.safetensors")) != read_file(at("several/run-1/model.safetensors")));

  SUBCASE("flags go over the file, and a folder that holds a run is kept unless told otherwise") {
    const Arguments other = {"train",     "--config", at("several/run-2"),  "--lr", "0.5", "--out",
                             at("again"), "--quiet",  "--stop-after-steps", "1"};
    const std::string model = read_file(at("again/model.safetensors"));
    check_error(weft_run(other), 1, {at("again"), "--resume", "--overwrite"});
    CHECK(read_file(at("again/model.safetensors")) == model);
    CHECK(weft_run(other + Arguments{"--overwrite"}).code == 1);  // stopped, as told
    CHECK(!fs::exists(at("again/model.safetensors")));
    const json config = json_file(at("again/config.json"));
    CHECK(config["lr"] == 0.5);
    CHECK(config["seed"] == 8);
  }
  SUBCASE("--overwrite leaves none of them where one is missing") {
    fs::remove_all(at("several/run-1"));
    CHECK(weft_run(quick_run("several") +
                   Arguments{"--runs", "2", "--overwrite", "--stop-after-steps", "1", "--quiet"})
              .code == 1);  // stopped, as told
    CHECK(!fs::exists(at("several/run-2/summary.json")));
  }
  SUBCASE("a config that is none") {
    write_file(at("bad.json"), "{\"lr\": \"fast\"}");
    check_error(weft_run({"train", "--config", at("bad.json")}), 1, {"bad.json", "lr"});
    write_file(at("bad.json"), "lr = 3");
    check_error(weft_run({"train", "--config", at("bad.json")}), 1, {"bad.json"});
    check_error(weft_run({"train", "--config", at("there-is-none.json")}), 1, {"there-is-none.json"});
  }
  for (const char* run : {"several", "again"}) fs::remove_all(at(run));
}

TEST_CASE("a run of several that diverges is left out, and the others are made") {
  const Result all = weft_run(quick_run("lost") + Arguments{"--runs", "2", "--lr", "1e30", "--quiet"});
  check_error(all, 1,
              {"2 of 2 runs diverged: run-1 (seed 42): the loss is nan at step 2", "; run-2 (seed 43)",
               "a lower --lr"});
  CHECK(!fs::exists(at("lost/summary.json")));
  // As if the second one had ended well.
  REQUIRE(weft_run(quick_run("well") + Arguments{"--quiet"}).code == 0);
  fs::copy_file(at("well/summary.json"), at("lost/run-2/summary.json"));
  const Result r = weft_run({"train", "--resume", at("lost"), "--threads", "1"});
  CHECK(r.code == 1);
  CHECK(has(r.out, "over 1 run, without 1 that diverged"));
  CHECK(has(r.out, " 1 thread,"));
  CHECK(has(r.err, "1 of 2 runs diverged: run-1 (seed 42): the loss is nan"));
  CHECK(has(r.err, "summary.json is of the other 1"));
  const json summary = json_file(at("lost/summary.json")), well = json_file(at("well/summary.json"));
  CHECK(summary["runs"] == 1);
  CHECK(summary["best_run"] == 2);
  CHECK(summary["seed"] == 42);
  REQUIRE(summary["diverged"].size() == 1);
  CHECK(summary["diverged"][0]["run"] == 1);
  CHECK(summary["mean_val_accuracy"] == well["final_val_accuracy"]);
  for (const char* run : {"lost", "well"}) fs::remove_all(at(run));
}

TEST_CASE("a value that no run can have is named by file and key, or by flag where that has it") {
  const std::string file = at("wrong/config.json");
  fs::create_directories(at("wrong"));
  const std::pair<const char*, const char*> wrong[] = {
      {R"({"batch_size": 0})", R"("batch_size" must be 1 to 65536, got 0)"},
      {R"({"model": "resnet"})", R"("model": unknown name 'resnet')"},
      {R"({"device": "gpu"})", R"("device" must be cpu or cuda[:i], got gpu)"},
      {R"({"size": 4})", R"("size" must be 8 to 4096, got 4)"}};
  for (const auto& [text, error] : wrong) {
    write_file(file, text);
    for (const char* flag : {"--config", "--resume"})
      check_error(weft_run({"train", flag, at("wrong")}), 2, {"weft: " + file + ": " + error});
  }
  check_error(weft_run({"train", "--config", file, "--size", "5"}), 2,
              {"weft: --size must be 8 to 4096, got 5"});
}

TEST_CASE("--init starts from the weights of another run") {
  REQUIRE(weft_run(quick_run("init-base") + Arguments{"--quiet"}).code == 0);
  // Whether all weights but those of the last layer are the other run's, as steps of this length leave them.
  const Arguments still = {"--init", at("init-base"), "--lr", "1e-30", "--wd", "0"};
  const auto starts_there = [](const std::string& run) {
    const weft::StateDict from = weft::load_safetensors(at("init-base/model.safetensors")),
                          to = weft::load_safetensors(at(run) + "/model.safetensors");
    REQUIRE(from.size() == to.size());
    bool same = true;
    for (const auto& [name, weight] : to)
      if (!has(name, "running") && !has(name, "linear"))
        same = same && weight.to_vector<float>() == weft::find(from, name).to_vector<float>();
    return same;
  };
  const Result other_size = weft_run(quick_run("init-larger") + still + Arguments{"--size", "40"});
  INFO(other_size.err);
  REQUIRE(other_size.code == 0);
  CHECK(has(other_size.out, "starts from the weights of " + at("init-base")));
  CHECK(!has(other_size.out, "random"));
  CHECK(starts_there("init-larger"));
  CHECK(json_file(at("init-larger/config.json"))["init"] == at("init-base"));

  fs::copy(sample(), at("init-fewer"), fs::copy_options::recursive);
  for (const char* split : {"train", "val"}) fs::remove_all(at("init-fewer") + "/" + split + "/ring");
  const Result other_classes =
      weft_run(quick_run("init-other") + still + Arguments{"--data", at("init-fewer")});
  INFO(other_classes.err);
  REQUIRE(other_classes.code == 0);
  CHECK(has(other_classes.out, "random: "));
  CHECK(starts_there("init-other"));

  check_error(weft_run(quick_run("none") + Arguments{"--init", at("nowhere")}), 1, {at("nowhere")});
  check_error(weft_run(quick_run("none") + Arguments{"--init", at("init-base"), "--model", "resnet32"}), 1,
              {"--init", "init-base", "resnet20", "the same --model"});
  check_error(weft_run(quick_run("none") + Arguments{"--init", at("init-base"), "--model", "mlp"}), 1,
              {"--init", "init-base", "resnet20", "the same --model"});
  CHECK(!fs::exists(at("none")));

  // Going on takes the run's own weights.
  CHECK(weft_run(quick_run("init-going") + still + Arguments{"--stop-after-steps", "1", "--quiet"}).code ==
        1);
  fs::rename(at("init-base"), at("init-moved"));
  CHECK(weft_run({"train", "--resume", at("init-going"), "--quiet"}).code == 0);
  fs::rename(at("init-moved"), at("init-base"));
  CHECK(starts_there("init-going"));
}

TEST_CASE("the lock of a folder removes at once what a killed run has left") {
  Process killed(command({"--version"}));
  killed.wait();
  const std::string left = at("locked/metrics.csv.tmp" + std::to_string(killed.id()));
  fs::create_directories(at("locked"));
  write_file(left, "half");
  const weft::app::RunLock lock({at("locked")});
  if (lock.held()) CHECK_FALSE(fs::exists(left));
}

TEST_CASE("a run leaves other runs alone that lie in its folder") {
  REQUIRE(weft_run(quick_run("nest/run-1") + Arguments{"--quiet", "--stop-after-steps", "1"}).code == 1);
  const std::string config = read_file(at("nest/run-1/config.json"));
  write_file(at("nest/run-2"), "a log");
  CHECK(weft_run(quick_run("nest") + Arguments{"--quiet", "--stop-after-steps", "1"}).code == 1);
  CHECK(weft_run(quick_run("nest") + Arguments{"--quiet", "--stop-after-steps", "1", "--overwrite"}).code ==
        1);
  CHECK(fs::exists(at("nest/checkpoint.safetensors")));
  CHECK(read_file(at("nest/run-1/config.json")) == config);
  CHECK(fs::exists(at("nest/run-1/checkpoint.safetensors")));
  CHECK(read_file(at("nest/run-2")) == "a log");
  // Results of something else are not replaced either.
  fs::create_directories(at("alone"));
  write_file(at("alone/metrics.csv"), "mine");
  check_error(weft_run(quick_run("alone")), 1, {"alone", "holds a run"});
  CHECK(read_file(at("alone/metrics.csv")) == "mine");
  for (const char* name : {"nest", "alone"}) fs::remove_all(at(name));
}

TEST_CASE("a run that cannot start leaves what the folder holds") {
  REQUIRE(weft_run(quick_run("kept") + Arguments{"--quiet"}).code == 0);
  const std::string model = read_file(at("kept/model.safetensors"));
  const auto fails = [&](const Arguments& more, const std::vector<std::string>& parts) {
    check_error(weft_run(quick_run("kept") + Arguments{"--quiet"} + more), 1, parts);
    CHECK(read_file(at("kept/model.safetensors")) == model);
    CHECK(json_file(at("kept/config.json"))["seed"] == 42);
    CHECK(fs::exists(at("kept/summary.json")));
  };
  fails({"--overwrite", "--batch-size", "640"}, {"--batch-size 640", "full batch of 640", "give 60 at most"});
  fails({"--overwrite", "--model", "mxresnet18", "--batch-size", "1", "--seed", "1"},
        {"batch_norm"});  // in its first step
  // In the place of one of several, and while another one has the folder.
  fs::create_directories(at("parent"));
  fs::rename(at("kept"), at("parent/run-2"));
  check_error(weft_run(quick_run("parent") + Arguments{"--quiet", "--runs", "2"}), 1,
              {"parent", "holds a run"});
  fs::rename(at("parent/run-2"), at("kept"));
  // Interrupted before it has replaced the old run.
  Process next(command(quick_run("kept") + Arguments{"--json", "--overwrite", "--model", "mxresnet18",
                                                     "--size", "128", "--batch-size", "50"}));
  next.wait_for_output("\"start\"");
  next.signal(SIGINT);
  check_error(next.wait(), 1, {"first step", "kept is as it was"});
  CHECK(read_file(at("kept/model.safetensors")) == model);
  Process run(command(full_run("kept") + Arguments{"--overwrite", "--epochs", "50"}));
  run.wait_for_output("\"start\"");
  check_error(weft_run({"train", "--resume", at("kept"), "--quiet"}), 1, {"another weft", "kept"});
  check_error(weft_run(quick_run("kept") + Arguments{"--quiet", "--overwrite"}), 1, {"another weft", "kept"});
  run.signal(SIGINT);
  CHECK(run.wait().code == 1);
  // The other one is between removing the old files and writing the first of its own.
  fs::create_directories(at("taken"));
  {
    const weft::app::RunLock other({at("taken")});
    check_error(weft_run({"train", "--resume", at("taken"), "--quiet"}), 1, {"another weft", "taken"});
  }
  check_error(weft_run({"train", "--resume", at("taken"), "--quiet"}), 1, {"taken", "no config.json"});

  // What resume finds damaged, and what it makes anew.
  REQUIRE(weft_run(quick_run("kept") + Arguments{"--quiet", "--overwrite"}).code == 0);
  write_file(at("kept/summary.json"), "{}");
  check_error(weft_run({"train", "--resume", at("kept"), "--quiet"}), 1, {"kept/summary.json"});
  fs::remove(at("kept/model.safetensors"));
  CHECK(weft_run({"train", "--resume", at("kept"), "--quiet"}).code == 0);
  CHECK(read_file(at("kept/model.safetensors")) == model);
  CHECK(json_file(at("kept/summary.json")).contains("final_val_accuracy"));
  fs::remove(at("kept/checkpoint.safetensors"));
  check_error(weft_run({"train", "--resume", at("kept"), "--quiet"}), 1,
              {"kept/checkpoint.safetensors is missing", "--overwrite"});
  CHECK(read_file(at("kept/model.safetensors")) == model);
  for (const char* name : {"kept", "parent", "taken"}) fs::remove_all(at(name));
}

TEST_CASE("a diverging run stops, names the step and keeps the last good checkpoint") {
  const Arguments run = {"train",       "--data",   sample(),
                         "--size",      "32",       "--batch-size",
                         "8",           "--epochs", "3",
                         "--optimizer", "sgd",      "--lr",
                         "1e30",        "--quiet",  "--checkpoint-steps",
                         "1",           "--out",    at("diverged")};
  check_error(weft_run(run), 1,
              {"step 2", "epoch 1", "--lr", "--trace-nan", at("diverged/checkpoint.safetensors")});
  for (const auto& [name, tensor] : weft::load_safetensors(at("diverged/checkpoint.safetensors")))
    if (name == "model.head.bias")
      for (float v : tensor.to_vector<float>()) CHECK(std::isfinite(v));
  check_error(weft_run({"train", "--resume", at("diverged"), "--quiet"}), 1, {"step 2"});
  check_error(weft_run({"train", "--resume", at("diverged"), "--quiet", "--trace-nan"}), 1,
              {"step 2: forward of ", " in stem.", ", sample ", "--lr"});
}

TEST_CASE("a disk or folder that cannot be written to") {
  write_file(at("plain-file"), "");
  check_error(weft_run({"train", "--data", sample(), "--out", at("plain-file/run")}), 1,
              {"plain-file/run", "--out"});
  // A file size limit stands in for a full disk: writing fails in the middle of the checkpoint.
  const Result full = weft_limited(
      "ulimit -f 10000",
      quick_run("full") + Arguments{"--model", "mxresnet18", "--quiet", "--stop-after-steps", "1"});
  check_error(full, 1, {"full/checkpoint.safetensors"});
  for (const auto& entry : fs::directory_iterator(at("full"))) {
    const std::string name = entry.path().filename().string();
    CHECK_MESSAGE((name == "config.json" || name == "metrics.csv"), name);
  }
}

TEST_CASE("a run that fails before its first file leaves no empty folder") {
  const Arguments fails = {"train",  "--data", sample(),  "--model",      "mlp",
                           "--size", "8",      "--quiet", "--batch-size", "999"};
  for (const char* runs : {"1", "2"})
    check_error(weft_run(fails + Arguments{"--runs", runs, "--out", at("no/such/folder")}), 1,
                {"full batch of 999"});
  CHECK_FALSE(fs::exists(at("no")));
  fs::create_directories(at("empty"));
  check_error(weft_run(fails + Arguments{"--out", at("empty/run")}), 1, {"full batch of 999"});
  check_error(weft_run(fails + Arguments{"--out", at("empty")}), 1, {"full batch of 999"});
  CHECK(fs::is_empty(at("empty")));  // not made by it
  CHECK(weft_limited("cd '" + at("empty") + "'", fails).code == 1);
  CHECK(fs::is_empty(at("empty")));  // no runs/TIME
}

TEST_CASE("--tune warns once of a cache that cannot be written to") {
  write_file(at("no-cache"), "");
  const Result r = weft_limited("export XDG_CACHE_HOME='" + at("no-cache") + "'",
                                quick_run("untuned") + Arguments{"--model", "resnet20", "--tune", "--quiet"});
  CHECK(r.code == 0);
  check_error({2, r.out, r.err}, 2, {"the choices of --tune are not kept"});
}

TEST_CASE("data that cannot be trained on") {
  const auto error = [](const std::string& data, const std::vector<std::string>& parts) {
    check_error(weft_run({"train", "--data", data, "--out", at("never")}), 1, parts);
    CHECK(!fs::exists(at("never")));
  };
  error(at("there-is-none"), {"there-is-none"});
  fs::create_directories(at("empty"));
  error(at("empty"), {"empty"});
  fs::create_symlink("loop", at("loop"));
  error(at("loop"), {at("loop") + ": Too many levels of symbolic links"});
  fs::create_directories(at("odd/train/cat"));
  fs::create_directories(at("odd/val/dog"));
  fs::copy(sample() + "/train/ring/ring_00000.JPEG", at("odd/train/cat/1.jpg"));
  fs::copy(sample() + "/train/ring/ring_00000.JPEG", at("odd/val/dog/1.jpg"));
  error(at("odd"), {"dog"});
  check_error(
      weft_run({"train", "--data", sample(), "--noisy-labels", at("no.csv:noise"), "--out", at("never")}), 1,
      {"no.csv"});
}

TEST_CASE("broken images are counted, or refused with --strict") {
  const Result verify = weft_run({"data", "verify", broken_sample(), "--json"});
  CHECK(verify.code == 1);
  const json report = json::parse(verify.out);
  CHECK(report["images"] == 80);
  REQUIRE(report["bad"].size() == 1);
  CHECK(report["bad"][0]["file"] == "train/ring/ring_00003.JPEG");
  CHECK(report["classes"]["ring"] == json{{"train", 5}, {"val", 2}});
  CHECK(weft_run({"data", "verify", sample()}).code == 0);

  Arguments run = quick_run("skipping");
  run[2] = broken_sample();
  run.insert(run.end(), {"--batch-size", "4"});  // all 60 images are used
  run.erase(run.begin() + 5, run.begin() + 7);
  const Result skipping = weft_run(run);
  CHECK(skipping.code == 0);
  CHECK(has(skipping.err, "ring_00003"));
  CHECK(json_file(at("skipping/summary.json"))["skipped_images"] == 1);
  *std::find(run.begin(), run.end(), at("skipping")) = at("strict");
  check_error(weft_run(run + Arguments{"--strict", "--quiet"}), 1, {"ring_00003"});
}

TEST_CASE("validation images that cannot be read cost no epoch") {
  const std::string file = at("unread/val/ring/ring_00000.JPEG");
  fs::copy(sample(), at("unread"), fs::copy_options::recursive);
  REQUIRE(fs::exists(file));
  const std::string whole = read_file(file);
  write_file(file, whole.substr(0, whole.size() / 2));
  Arguments run = quick_run("mended");
  run[2] = at("unread");
  check_error(weft_run(run + Arguments{"--strict", "--quiet"}), 1, {"ring_00000"});
  write_file(file, whole);
  const Result r = weft_run({"train", "--resume", at("mended")});
  REQUIRE_MESSAGE(r.code == 0, r.err);
  CHECK(has(r.out, "going on at step 7 of 7"));
  REQUIRE(weft_run(quick_run("unbroken") + Arguments{"--strict", "--quiet"}).code == 0);
  CHECK(read_file(at("mended/model.safetensors")) == read_file(at("unbroken/model.safetensors")));
  for (const char* name : {"unread", "mended", "unbroken"}) fs::remove_all(at(name));
}

TEST_CASE("eval and predict need nothing but the model") {
  REQUIRE(reference().code == 0);
  const json summary = json_file(at("reference/summary.json"));
  const Result r = weft_run({"eval", "--model", at("reference"), "--data", sample(), "--json"});
  INFO(r.err);
  REQUIRE(r.code == 0);
  const json result = json::parse(r.out);
  CHECK(result["accuracy"] == summary["final_val_accuracy"]);
  // Other batches, other order of summation.
  CHECK(result["loss"].get<double>() ==
        doctest::Approx(summary["final_val_loss"].get<double>()).epsilon(1e-5));
  CHECK(result["images"] == 20);
  int64_t total = 0, diagonal = 0;
  for (size_t i = 0; i < 10; ++i)
    for (size_t j = 0; j < 10; ++j) {
      const int64_t count = result["confusion"][i][j];
      total += count, diagonal += i == j ? count : 0;
    }
  CHECK(total == 20);
  CHECK(double(diagonal) / 20 == doctest::Approx(result["accuracy"].get<double>()));
  const Result table =
      weft_run({"eval", "--model", at("reference/model.safetensors"), "--valid-resize", "40"});
  CHECK(table.code == 0);
  CHECK(has(table.out, "confusion"));
  const Result same = weft_run({"eval", "--model", at("reference"), "--size", "32", "--json"});
  CHECK(json::parse(same.out)["loss"] == result["loss"]);  // --valid-resize is as trained
  check_error(weft_run({"eval", "--model", at("reference/checkpoint.safetensors"), "--data", sample()}), 1,
              {"checkpoint.safetensors"});
  check_error(weft_run({"eval", "--model", at("there-is-none")}), 1, {"there-is-none"});
  check_error(weft_run({"eval", "--model", at("reference"), "--data", at("odd")}), 1, {});

  const std::string image = sample() + "/val/ring/ring_00000.JPEG";
  write_file(at("text.JPEG"), "no picture");
  const Result top =
      weft_run({"predict", "--model", at("reference"), at("text.JPEG"), image, "--top", "3", "--json"});
  CHECK(top.code == 1);
  CHECK(has(top.err, "text.JPEG"));
  const json prediction = json::parse(top.out);  // one line: the good image
  CHECK(prediction["file"] == image);
  REQUIRE(prediction["top"].size() == 3);
  CHECK(prediction["top"][0]["probability"] >= prediction["top"][1]["probability"]);
  CHECK(prediction["top"][1]["probability"] >= prediction["top"][2]["probability"]);
  CHECK(weft_run({"predict", "--model", at("reference"), image}).code == 0);
}

TEST_CASE("fetch without a network says what to do") {
  // A proxy that nobody is: fails at once, everywhere.
  Arguments all = {"env", "https_proxy=http://127.0.0.1:9"};
  for (const std::string& a : command({"data", "fetch", "imagewoof2-160", "--out", at("fetched"), "--quiet"}))
    all.push_back(a);
  const Result r = Process(all).wait();
  CHECK(r.code == 1);
  CHECK(has(r.err, "https://s3.amazonaws.com/fast-ai-imageclas/imagewoof2-160.tgz"));
  CHECK(has(r.err, at("fetched/imagewoof2-160.tgz")));
}

TEST_CASE("lab lists the activations") {
  const Result text = weft_run({"lab", "activations", "--list"});
  CHECK(text.code == 0);
  CHECK(has(text.out, "mish(x) = x tanh(ln(1 + e^x)) (Misra"));
  CHECK(has(text.out, "leaky_relu(x) = "));
  CHECK(has(text.out, "[parameter 0.01]"));
  const Result lines = weft_run({"lab", "activations", "--list", "--json"});
  CHECK(lines.code == 0);
  std::istringstream in(lines.out);
  int count = 0;
  for (std::string line; std::getline(in, line); ++count) {
    const json row = json::parse(line);
    CHECK(row.at("description").get<std::string>().rfind(row.at("name").get<std::string>() + "(x) = ", 0) ==
          0);
  }
  CHECK(count == weft::kAllActivationCount);
  CHECK(has(lines.out, R"("learned":{"weight":0.25},"name":"prelu")"));
  CHECK(has(text.out, "[t_r learned, from 1]"));
  const Result two = weft_run({"lab", "activations", "--list", "--names", "relu,mish"});
  CHECK(two.code == 0);
  REQUIRE(lines_of(two.out).size() == 2);
  CHECK(lines_of(two.out)[1].rfind("mish(x) = ", 0) == 0);
  check_error(weft_run({"lab", "activations", "--list", "--names", "misch"}), 2, {"misch"});
  check_error(weft_run({"lab", "activations"}), 2, {"--list"});
}

TEST_CASE("lab lists the optimizers") {
  const Result text = weft_run({"lab", "optimizers", "--list"});
  CHECK(text.code == 0);
  CHECK(has(text.out, "adam: Adam (Kingma & Ba 2015, https://arxiv.org/abs/1412.6980"));
  CHECK(has(text.out, "\n    m <- beta1 m + (1 - beta1) g,"));
  const Result lines = weft_run({"lab", "optimizers", "--list", "--json"});
  CHECK(lines.code == 0);
  std::istringstream in(lines.out);
  std::vector<std::string> names;
  for (std::string line; std::getline(in, line);) {
    const json row = json::parse(line);
    names.push_back(row.at("name"));
    CHECK(row.at("description").get<std::string>().size() > 60);
  }
  CHECK(names == weft::optim::optimizer_names());
  check_error(weft_run({"lab", "optimizers"}), 2, {"--list"});
}

TEST_CASE("lab draws and certifies activations") {
  for (const char* file : {"some.svg", "some.png"}) {
    const Result r =
        weft_run({"lab", "activations", "--plot", at(file), "--names", "mish,relu", "--range", "-3,2"});
    CHECK(r.code == 0);
    CHECK(has(r.out, "drew 2 activations"));
    CHECK(fs::file_size(at(file)) > 1000);
  }
  const auto usage = [](std::vector<std::string> more, const std::string& text) {
    more.insert(more.begin(), {"lab", "activations"});
    check_error(weft_run(more), 2, {text});
  };
  usage({"--plot", at("some.gif")}, ".svg or .png");
  usage({"--plot", at("none.svg"), "--names", "mish,misch"}, "misch");
  usage({"--plot", at("none.svg"), "--range", "3,-3"}, "--range");
  usage({"--plot", at("none.svg"), "--range", "nan,1"}, "--range");
  usage({"--plot", at("none.svg"), "--certify"}, "--plot");
  usage({"--certify", "--isa", "mmx"}, "mmx");
  usage({"--certify", "--stride", "0"}, "--stride");
  CHECK_FALSE(fs::exists(at("none.svg")));
  check_error(weft_run({"lab", "activations", "--plot", at("no/such/folder.svg")}), 1,
              {"no/such/folder.svg"});
  const Result table = weft_run(
      {"lab", "activations", "--certify", "--stride", "1000003", "--names", "mish,silu,srelu,rrelu"});
  CHECK(table.code == 0);
  CHECK(has(table.out, "\nmish "));
  CHECK(has(table.out, "\nsilu "));
  CHECK(has(table.out, "\nsrelu "));
  CHECK(has(table.out, "srelu with t_r=1 a_r=1 t_l=0 a_l=0.2, where training starts"));
  CHECK(has(table.out, "rrelu with 0.229167 in evaluation"));
  const Result row = weft_run({"lab", "activations", "--certify", "--stride", "1000003", "--names", "relu",
                               "--isa", "reference", "--json"});
  CHECK(row.code == 0);
  const json relu = json::parse(row.out);
  CHECK(relu.at("name") == "relu");
  CHECK(relu.at("isa") == "reference");
  CHECK(relu.at("value").at("ulp") == 0);
}

TEST_CASE("an error or a warning that nobody reads changes neither the exit code nor the run") {
  for (const char* closed : {"exec 2> /dev/full", "exec 2>&-"}) {
    CHECK(weft_limited(closed, {"nonsense"}).code == 2);
    CHECK(weft_limited(closed, {"eval", "--model", at("nothing")}).code == 1);
  }
  Arguments broken = quick_run("unwarned");
  broken[2] = broken_sample();
  CHECK(
      weft_limited("exec 2> /dev/full", broken + Arguments{"--model", "resnet20", "--epochs", "2", "--quiet"})
          .code == 0);
  CHECK(json_file(at("unwarned/summary.json"))["skipped_images"] == 1);
}

TEST_CASE("output that nobody takes is an error, but not for a run") {
  check_error(weft_limited("exec > /dev/full", {"data", "verify", sample()}), 1, {"standard output"});
  for (const char* flag : {"--help", "--version"})
    check_error(weft_limited("exec > /dev/full", {flag}), 1, {"standard output"});
  check_error(weft_limited("exec > /dev/full", quick_run("unheard")), 1, {"standard output"});
  CHECK(fs::exists(at("unheard/summary.json")));
}
