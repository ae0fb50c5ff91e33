// weft train --resume: what it goes on writing, and data that have moved.
#include <doctest/doctest.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "support/command.h"
#include "weft/engine/file.h"

using nlohmann::json;
using weft::read_file;
using namespace weft::test;

namespace {

/// A tiny sample set, made once.
const std::string& sample() {
  static const std::string path = make_sample(32, 6, 2);
  return path;
}

/// 7 steps an epoch, of two.
Arguments small_run(const std::string& out) {
  return {"train",    "--data",    sample(),  "--size", "32",    "--batch-size", "8",
          "--epochs", "2",         "--model", "mlp",    "--lr",  "0.01",         "--optimizer",
          "sgd",      "--threads", "2",       "--out",  at(out), "--quiet"};
}

/// How often `text` is in the run's events.
int64_t in_events(const std::string& run, const std::string& text) {
  const std::string events = read_file(at(run) + "/events.out.tfevents.weft");
  int64_t count = 0;
  for (size_t i = 0; (i = events.find(text, i)) != std::string::npos; ++i) ++count;
  return count;
}

}  // namespace

TEST_CASE("a run with events goes on with them, whether they are asked for again or not") {
  const Arguments stop = {"--stop-after-steps", "9"};  // in the second epoch
  REQUIRE(weft_run(small_run("events") + stop + Arguments{"--tensorboard"}).code == 1);
  REQUIRE(weft_run({"train", "--resume", at("events"), "--quiet"}).code == 0);
  CHECK(in_events("events", "accuracy/val") == 2);
  // The second of two runs, which had not begun.
  REQUIRE(weft_run(small_run("two") + stop + Arguments{"--tensorboard", "--runs", "2"}).code == 1);
  REQUIRE(weft_run({"train", "--resume", at("two"), "--quiet"}).code == 0);
  CHECK(in_events("two/run-1", "accuracy/val") == 2);
  CHECK(in_events("two/run-2", "accuracy/val") == 2);
}

TEST_CASE("events that begin late tell of the epochs before, too") {
  REQUIRE(weft_run(small_run("late") + Arguments{"--stop-after-steps", "9"}).code == 1);
  CHECK(!fs::exists(at("late/events.out.tfevents.weft")));
  REQUIRE(weft_run({"train", "--resume", at("late"), "--tensorboard", "--quiet"}).code == 0);
  for (const char* tag : {"loss/train", "loss/val", "accuracy/val", "images_per_second"})
    CHECK_MESSAGE(in_events("late", tag) == 2, tag);
}

TEST_CASE("data that have moved are named in the run's config.json once its checkpoint has matched") {
  fs::copy(sample(), at("old-data"), fs::copy_options::recursive);
  const auto moving = [](const std::string& run, const Arguments& more) {
    Arguments all = small_run(run) + more;
    *std::find(all.begin(), all.end(), sample()) = at("old-data");
    return weft_run(all);
  };
  const auto data_of = [](const std::string& run) { return json_file(at(run) + "/config.json").at("data"); };
  const Arguments stop = {"--stop-after-steps", "3"};
  REQUIRE(moving("ended", {}).code == 0);
  REQUIRE(moving("stopped", stop).code == 1);
  REQUIRE(moving("several", Arguments{"--runs", "2"}).code == 0);
  const Arguments study = {"lab",       "compare", "--vary",       "activation=relu,mish",
                           "--runs",    "1",       "--data",       at("old-data"),
                           "--size",    "32",      "--batch-size", "8",
                           "--epochs",  "1",       "--model",      "mlp",
                           "--threads", "2",       "--out",        at("study"),
                           "--quiet"};
  REQUIRE(weft_run(study).code == 0);
  fs::rename(at("old-data"), at("new-data"));

  // Other pictures: nothing changes.
  fs::copy(at("new-data"), at("fewer"), fs::copy_options::recursive);
  fs::remove(at("fewer/train/ring/ring_00003.JPEG"));
  for (const char* run : {"ended", "stopped"}) {
    check_error(weft_run({"train", "--resume", at(run), "--data", at("fewer"), "--quiet"}), 1,
                {"60 training", "59 training"});
    CHECK(data_of(run) == at("old-data"));
  }
  for (const char* run : {"ended", "stopped", "several"}) {
    const Result r = weft_run({"train", "--resume", at(run), "--data", at("new-data"), "--quiet"});
    CHECK_MESSAGE(r.code == 0, r.err);
    CHECK(data_of(run) == at("new-data"));
  }
  for (const char* run : {"several/run-1", "several/run-2"}) CHECK(data_of(run) == at("new-data"));
  REQUIRE(weft_run({"lab", "compare", "--resume", at("study"), "--data", at("new-data"), "--quiet"}).code ==
          0);
  CHECK(json_file(at("study/compare.json"))["config"]["data"] == at("new-data"));
  for (const char* run : {"ended", "stopped", "several/run-2", "study/mish/run-1"})
    CHECK(weft_run({"eval", "--model", at(run), "--json"}).code == 0);
}

TEST_CASE("going on with a run that has ended tells its summary") {
  REQUIRE(weft_run(small_run("done")).code == 0);
  const Result r = weft_run({"train", "--resume", at("done"), "--json"});
  REQUIRE(r.code == 0);
  const std::vector<std::string> lines = lines_of(r.out);
  REQUIRE(lines.size() == 2);
  CHECK(json::parse(lines[0])["event"] == "start");
  const json end = json::parse(lines[1]);
  CHECK(end["event"] == "end");
  CHECK(end["summary"] == json_file(at("done/summary.json")));
}

TEST_CASE("--keep-best keeps the best epoch's weights, over a resume, too") {
  const Arguments keep = {"--keep-best", "--epochs", "4", "--lr", "0.03"};
  REQUIRE(weft_run(small_run("best") + keep).code == 0);
  const json summary = json_file(at("best/summary.json"));
  const auto eval = [](const Arguments& more) {
    const Result r = weft_run(Arguments{"eval", "--model", at("best"), "--json"} + more);
    REQUIRE_MESSAGE(r.code == 0, r.err);
    return json::parse(r.out)["accuracy"];
  };
  CHECK(eval({"--best"}) == summary["best_val_accuracy"]);
  CHECK(eval({}) == summary["final_val_accuracy"]);
  CHECK((read_file(at("best/best.safetensors")) == read_file(at("best/model.safetensors"))) ==
        (summary["best_epoch"] == 4));
  // Stopped in the epoch after the best, or in the second.
  const int64_t best = summary["best_epoch"], stop = 7 * std::min<int64_t>(best, 3) + 2;
  REQUIRE(weft_run(small_run("rest") + keep + Arguments{"--stop-after-steps", std::to_string(stop)}).code ==
          1);
  REQUIRE(weft_run({"train", "--resume", at("rest"), "--quiet"}).code == 0);
  CHECK(read_file(at("rest/best.safetensors")) == read_file(at("best/best.safetensors")));

  const std::string image = sample() + "/val/ring/ring_00000.JPEG";
  CHECK(weft_run({"predict", "--model", at("best"), "--best", image}).code == 0);
  CHECK(weft_run({"export", at("best"), "--best", "--out", at("best.onnx")}).code == 0);
  check_error(weft_run({"predict", "--model", at("best/model.safetensors"), "--best", image}), 2,
              {"--best", "folder"});
  REQUIRE(weft_run(small_run("rest") + Arguments{"--overwrite"}).code == 0);
  CHECK(!fs::exists(at("rest/best.safetensors")));
  check_error(weft_run({"eval", "--model", at("rest"), "--best"}), 1,
              {"rest/best.safetensors", "--keep-best"});
}
