// weft train --resume: what it goes on writing, and data that have moved.
#include <doctest/doctest.h>

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
