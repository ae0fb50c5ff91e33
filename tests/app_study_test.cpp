// weft lab compare and weft lab depth: cells, files, seeds, stopping and going on, divergence, wrong usage.
#include <doctest/doctest.h>

#include <algorithm>
#include <functional>
#include <nlohmann/json.hpp>
#include <sstream>

#include "support/command.h"
#include "weft/apps/weft/run_files.h"
#include "weft/apps/weft/study_report.h"

using nlohmann::json;
using weft::read_file;
using weft::write_file;
using namespace weft::test;

namespace {

/// A tiny sample set, made once: 3 steps of 10 an epoch.
const std::string& sample() {
  static const std::string path = make_sample(16, 3, 2);
  return path;
}

/// 2 x 2 cells of 2 runs of 3 steps.
Arguments study(const std::string& out) {
  return {"lab",          "compare",    "--vary",    "activation=mish,relu",
          "--vary",       "mixup=0,.4", "--model",   "mlp",
          "--size",       "16",         "--data",    sample(),
          "--batch-size", "10",         "--epochs",  "1",
          "--runs",       "2",          "--seed",    "7",
          "--lr",         "1e-3",       "--threads", "2",
          "--out",        at(out)};
}

const Result& whole() {
  static const Result r = weft_run(study("whole") + Arguments{"--json"});
  return r;
}

std::vector<std::vector<std::string>> csv_rows(const std::string& name) {
  std::vector<std::vector<std::string>> rows;
  for (const std::string& line : lines_of(read_file(at(name) + "/results.csv"))) {
    rows.emplace_back();
    std::istringstream fields(line + ",");
    for (std::string field; std::getline(fields, field, ',');) rows.back().push_back(field);
  }
  return rows;
}

/// results.csv without the column that tells time.
std::vector<std::vector<std::string>> timeless_rows(const std::string& name) {
  auto rows = csv_rows(name);
  for (auto& row : rows) row.erase(row.end() - 2);
  return rows;
}

}  // namespace

TEST_CASE("a study trains all combinations over the same seeds, and writes its files") {
  REQUIRE_MESSAGE(whole().code == 0, whole().err);
  const auto rows = csv_rows("whole");
  REQUIRE(rows.size() == 9);
  CHECK(rows[0] == std::vector<std::string>{"activation", "mixup", "seed", "final_val_accuracy",
                                            "best_val_accuracy", "val_loss", "seconds", "diverged"});
  // Seed by seed, the last axis fastest.
  for (size_t i = 1; i < rows.size(); ++i) {
    CHECK(rows[i][0] == (((i - 1) / 2) % 2 == 0 ? "mish" : "relu"));
    CHECK(std::stod(rows[i][1]) == ((i - 1) % 2 == 0 ? 0 : 0.4));
    CHECK(rows[i][2] == (i <= 4 ? "7" : "8"));
  }
  const json summary = json_file(at("whole/summary.json"));
  CHECK(summary["runs"] == 8);
  REQUIRE(summary["cells"].size() == 4);
  double total = 0, difference = 0;
  for (size_t seed = 0; seed < 2; ++seed) {
    total += std::stod(rows[4 * seed + 4][3]);
    difference += std::stod(rows[4 * seed + 4][3]) - std::stod(rows[4 * seed + 1][3]);
  }
  const json& last = summary["cells"][3];
  CHECK(last["settings"] == json{{"activation", "relu"}, {"mixup", 0.4}});
  CHECK(last["baseline"] == summary["cells"][0]["name"]);
  CHECK(last["mean_val_accuracy"].get<double>() == doctest::Approx(total / 2));
  CHECK(last["difference"]["mean"].get<double>() == doctest::Approx(difference / 2));
  CHECK(last["difference"]["pairs"] == 2);
  CHECK_FALSE(summary["cells"][0].contains("difference"));
  const std::string report = read_file(at("whole/report.md")), plot = read_file(at("whole/plot.svg"));
  CHECK(has(report, "| relu | 0.4 | 2 |"));
  CHECK(has(report, "p (Holm)"));
  CHECK(has(report, "--batch-size 10 --data " + sample()));
  CHECK(has(plot, ">relu<"));
  for (const std::string& text : {report, plot}) CHECK_FALSE(has(text, "nan"));

  // Each run is one of weft train with those settings, without a checkpoint that nobody needs.
  const std::string run = at("whole/" + last["name"].get<std::string>() + "/run-2");
  CHECK(json_file(run + "/config.json")["seed"] == 8);
  CHECK_FALSE(fs::exists(run + "/checkpoint.safetensors"));
  REQUIRE(weft_run({"train", "--config", run, "--out", at("single"), "--quiet"}).code == 0);
  CHECK(read_file(at("single/model.safetensors")) == read_file(run + "/model.safetensors"));
  CHECK(weft_run({"eval", "--model", run, "--json"}).code == 0);

  size_t runs = 0;
  for (const std::string& line : lines_of(whole().out)) runs += json::parse(line).at("event") == "run";
  CHECK(runs == 8);
}

TEST_CASE("the folder of a study, and a run in it, are told from runs of weft train") {
  REQUIRE(whole().code == 0);
  const std::string cell = json_file(at("whole/summary.json"))["cells"][0]["name"],
                    run = at("whole/" + cell + "/run-1");
  for (const Arguments& use :
       {Arguments{"eval", "--model", at("whole")}, Arguments{"predict", "--model", at("whole"), "x.png"},
        Arguments{"export", at("whole"), "--out", at("x.onnx")}})
    check_error(weft_run(use), 1, {at("whole") + " holds a study", "one of its runs", run, "..."});
  check_error(weft_run({"train", "--resume", at("whole")}), 1, {"weft lab compare --resume " + at("whole")});
  for (const Arguments& use :
       {Arguments{"train", "--resume", run + "/"}, Arguments{"train", "--data", sample(), "--out", run}})
    check_error(weft_run(use), 1, {"of the study in ", "weft lab compare --resume "});
}

TEST_CASE("a stopped study goes on, to the same bits") {
  REQUIRE(whole().code == 0);
  // In the middle of the third run.
  const Result stopped = weft_run(study("parts") + Arguments{"--stop-after-steps", "8"});
  CHECK(stopped.code == 1);
  CHECK(has(stopped.out, "--resume " + at("parts")));
  CHECK(csv_rows("parts").size() == 3);
  check_error(weft_run(study("parts")), 1, {"holds a study already", "--resume", "--overwrite"});
  check_error(weft_run({"lab", "compare", "--resume", at("parts"), "--lr", "2e-3"}), 2, {"--lr differs"});
  check_error(weft_run({"lab", "compare", "--resume", at("parts"), "--vary", "activation=mish,relu"}), 2,
              {"varies something else"});
  check_error(weft_run({"lab", "compare", "--resume", at("parts"), "--activation", "relu"}), 2,
              {"--activation differs"});
  check_error(weft_run({"lab", "compare", "--resume", at("parts"), "--within", "mixup"}), 2,
              {"--within mixup"});
  fs::copy(sample(), at("fewer"), fs::copy_options::recursive);
  fs::remove(at("fewer/train/ring/ring_00001.JPEG"));
  check_error(weft_run({"lab", "compare", "--resume", at("parts"), "--data", at("fewer")}), 1,
              {"of other pictures", "30 training", "29 training"});
  for (const Arguments& more : {Arguments{}, Arguments{"--overwrite"}})
    check_error(weft_run(Arguments{"train", "--data", sample(), "--out", at("parts"), "--model", "mlp",
                                   "--size", "8"} +
                         more),
                1, {"holds a study", "--out"});
  Process process(command({"lab", "compare", "--resume", at("parts"), "--threads", "1", "--json"}));
  process.wait_for_output("\"run\"");
  process.signal(SIGTERM);
  Result rest = process.wait();
  while (rest.code == 1 && has(rest.out, "\"stopped\""))
    rest = weft_run({"lab", "compare", "--resume", at("parts"), "--json", "--vary", "activation=mish,relu",
                     "--vary", "mixup=0,0.4"});
  REQUIRE_MESSAGE(rest.code == 0, rest.err);
  CHECK(timeless_rows("parts") == timeless_rows("whole"));
  CHECK(has(read_file(at("whole/report.md")), "8 runs: 4 cells, seeds 7 to 8."));
  const json summary = json_file(at("whole/summary.json"));
  for (const json& cell : summary["cells"]) {
    const std::string model = "/" + cell["name"].get<std::string>() + "/run-2/model.safetensors";
    CHECK(read_file(at("parts" + model)) == read_file(at("whole" + model)));
  }
  // Files that follow from compare.json are made again.
  fs::remove(at("parts/report.md"));
  const Result told = weft_run({"lab", "compare", "--resume", at("parts")});
  CHECK(told.code == 0);
  CHECK(has(told.out, "(half the 95 % interval) (2 runs)"));
  CHECK(fs::exists(at("parts/report.md")));
  // It may have more seeds later, as if it had had them from the start, and not fewer.
  check_error(weft_run({"lab", "compare", "--resume", at("parts"), "--runs", "1"}), 2, {"--runs 1", "fewer"});
  check_error(weft_run({"lab", "compare", "--resume", at("parts"), "--runs", "2501"}), 2,
              {"--runs 2501", "4 cells", "10000"});
  const Arguments more = {"lab", "compare", "--resume", at("parts"), "--runs", "3"};
  CHECK(weft_run(more + Arguments{"--stop-after-steps", "2"}).code == 1);
  CHECK(json_file(at("parts/compare.json"))["config"]["runs"] == 3);
  REQUIRE(weft_run({"lab", "compare", "--resume", at("parts"), "--quiet"}).code == 0);
  REQUIRE(weft_run(study("three") + Arguments{"--runs", "3", "--quiet"}).code == 0);
  CHECK(timeless_rows("parts").size() == 13);
  CHECK(timeless_rows("parts") == timeless_rows("three"));
}

TEST_CASE("what lies in the folder is not replaced by accident") {
  const Arguments small = {"lab",
                           "compare",
                           "--vary",
                           "activation=mish,relu",
                           "--model",
                           "mlp",
                           "--data",
                           sample(),
                           "--batch-size",
                           "10",
                           "--epochs",
                           "1",
                           "--size",
                           "16",
                           "--runs",
                           "1",
                           "--quiet",
                           "--lr",
                           "1e-3",
                           "--threads",
                           "2",
                           "--out",
                           at("kept")};
  fs::create_directories(at("kept/relu/run-1"));
  write_file(at("kept/relu/run-1/config.json"), "mine");
  check_error(weft_run(small), 1, {"relu/run-1 holds a run that is of no study"});
  check_error(weft_run(small + Arguments{"--overwrite"}), 1, {"relu/run-1 holds a run"});
  fs::remove_all(at("kept"));
  REQUIRE(weft_run(small).code == 0);
  for (const char* part : {"no statistics", "2 runs: 2 cells, seed 42."})
    CHECK_MESSAGE(has(read_file(at("kept/report.md")), part), part);
  write_file(at("kept/notes.txt"), "mine");
  // One that cannot start leaves it; one that can replaces the study, and nothing else.
  check_error(weft_run(small + Arguments{"--overwrite", "--batch-size", "500"}), 1, {"full batch of 500"});
  CHECK(fs::exists(at("kept/relu/run-1/model.safetensors")));
  Arguments other = small + Arguments{"--overwrite"};
  other[3] = "activation=mish,silu";
  REQUIRE(weft_run(other).code == 0);
  CHECK_FALSE(fs::exists(at("kept/relu")));
  CHECK(fs::exists(at("kept/silu/run-1/model.safetensors")));
  CHECK(fs::exists(at("kept/notes.txt")));
  write_file(at("kept/compare.json"), "{\"runs\": 3}");
  check_error(weft_run({"lab", "compare", "--resume", at("kept")}), 1, {"kept/compare.json"});
  fs::remove(at("kept/compare.json"));
  check_error(weft_run({"lab", "compare", "--resume", at("kept")}), 1, {"no study in this folder"});
  check_error(weft_run(small), 1, {"kept holds a run of weft train"});
}

TEST_CASE("a compare.json that no study can have is refused by name, and nothing trains") {
  REQUIRE(whole().code == 0);
  const std::string record = read_file(at("whole/compare.json"));
  const auto refused = [&](const std::function<void(json&)>& edit, const std::vector<std::string>& parts) {
    json study = json::parse(record);
    edit(study);
    write_file(at("whole/compare.json"), study.dump());
    const Result r = weft_run({"lab", "compare", "--resume", at("whole"), "--quiet"});
    check_error(r, 1, parts);
    check_error(r, 1, {at("whole/compare.json")});
    CHECK_FALSE(fs::exists(at("whole/run-1")));
  };
  refused([](json& s) { s["pictures"] = json::array(); }, {"\"pictures\" is empty"});
  refused([](json& s) { s["vary"] = json::array(); }, {"\"vary\" is empty"});
  refused([](json& s) { s["vary"][1]["values"] = json::array(); }, {"mixup has no values"});
  refused([](json& s) { s["runs"].push_back(s["runs"][2]); }, {"run 1 of relu_", "is there twice"});
  refused([](json& s) { s["runs"][0]["final_val_accuracy"] = 1e308; }, {"an accuracy of 1e+308"});
  refused([](json& s) { s["runs"][0]["best_val_accuracy"] = -0.1; }, {"an accuracy of -0.1"});
  refused([](json& s) { s["runs"][0]["run"] = 1.9; },
          {"\"run\" is 1.9, expected a whole number from 1 to 2"});
  refused([](json& s) { s["runs"][0]["run"] = 9.2e25; }, {"\"run\" is 9.2e+25"});
  refused([](json& s) { s["runs"][0]["run"] = 3; }, {"\"run\" is 3"});
  refused([](json& s) { s["config"]["epochs"] = ~uint64_t{0}; }, {"\"epochs\" is 18446744073709551615"});
  write_file(at("whole/compare.json"), record);
}

TEST_CASE("going on, --within may be repeated as it was written") {
  REQUIRE(weft_run({"lab", "compare", "--vary", "batch-size=10", "--within", "batch-size", "--model", "mlp",
                    "--data", sample(), "--size", "8", "--epochs", "1", "--runs", "1", "--out", at("within"),
                    "--quiet"})
              .code == 0);
  const Result r =
      weft_run({"lab", "compare", "--resume", at("within"), "--within", "batch-size", "--quiet"});
  CHECK_MESSAGE(r.code == 0, r.err);
}

TEST_CASE("a run that diverges is recorded, and the study goes on") {
  const Result r = weft_run({"lab",          "compare", "--vary",   "lr=1e30,1e-3,1e-2",
                             "--model",      "mlp",     "--data",   sample(),
                             "--batch-size", "10",      "--epochs", "2",
                             "--size",       "16",      "--runs",   "2",
                             "--optimizer",  "sgd",     "--out",    at("far"),
                             "--threads",    "2"});
  REQUIRE_MESSAGE(r.code == 0, r.err);
  const auto rows = csv_rows("far");
  REQUIRE(rows.size() == 7);
  CHECK(has(read_file(at("far/results.csv")), ",\"the loss is nan"));
  CHECK(rows[1][2].empty());
  const json cells = json_file(at("far/summary.json"))["cells"];
  CHECK(cells[0]["diverged"] == 2);
  CHECK(cells[0]["mean_val_accuracy"].is_null());
  CHECK(cells[1]["diverged"] == 0);
  CHECK(cells[1]["runs"] == 2);
  CHECK_FALSE(cells[1].contains("difference"));  // with nothing to compare to
  CHECK(has(read_file(at("far/report.md")), "0 + 2 diverged"));
  CHECK(has(read_file(at("far/report.md")), "seed 42: the loss is nan"));
  // Known when it goes on.
  const std::string record = read_file(at("far/compare.json"));
  REQUIRE(weft_run({"lab", "compare", "--resume", at("far"), "--quiet"}).code == 0);
  CHECK(read_file(at("far/compare.json")) == record);
}

TEST_CASE("cells that end alike bit for bit are named") {
  const std::string warning =
      "constant and reflect ended the same bit for bit, with every seed: what differs between them "
      "(pad_mode) has no effect.";
  const Arguments pad_modes = {"lab",       "compare", "--vary",       "pad-mode=constant,reflect",
                               "--model",   "mlp",     "--data",       sample(),
                               "--size",    "16",      "--runs",       "2",
                               "--threads", "2",       "--batch-size", "10",
                               "--epochs",  "1",       "--out"};
  const Result r = weft_run(pad_modes + Arguments{at("alike")});
  REQUIRE_MESSAGE(r.code == 0, r.err);
  CHECK(has(r.out, warning));
  CHECK(has(read_file(at("alike/report.md")), warning));
  const Result padded = weft_run(pad_modes + Arguments{at("padded"), "--pad", "4"});
  REQUIRE_MESSAGE(padded.code == 0, padded.err);
  CHECK_FALSE(has(padded.out, "bit for bit"));
  CHECK_FALSE(has(read_file(at("padded/report.md")), "bit for bit"));
}

TEST_CASE("wrong usage is found before anything trains") {
  const auto wrong = [](const Arguments& arguments, const std::vector<std::string>& parts) {
    check_error(weft_run(Arguments{"lab", "compare", "--out", at("never"), "--model", "mlp"} + arguments), 2,
                parts);
    CHECK_FALSE(fs::exists(at("never")));
  };
  wrong({}, {"--vary is missing"});
  wrong({"--vary", "activaton=mish"}, {"--vary", "activaton", "activation", "batch_size"});
  wrong({"--vary", "activation"}, {"KEY=VALUE"});
  wrong({"--vary", "activation=mish,smish"}, {"smish", "swish"});
  wrong({"--vary", "batch-size=8,1.5"}, {"1.5", "batch_size", "whole number"});
  wrong({"--vary", "flip=true,yes"}, {"yes", "true or false"});
  wrong({"--vary", "lr=0.1,-1"}, {"--lr must be above 0"});
  wrong({"--vary", "lr=0.1,,1"}, {"empty"});
  wrong({"--vary", "lr=0.1,.1"}, {"twice"});
  wrong({"--vary", "lr=0.1,1", "--vary", "lr=2"}, {"twice"});
  wrong({"--vary", "lr=0.1,1", "--lr", "2"}, {"--lr", "varies"});
  for (const char* runs : {"0", "-1", "10001", "9223372036854775807"})
    wrong({"--vary", "lr=0.1,1", "--runs", runs}, {"--runs must be 1 to 10000", runs});
  wrong({"--vary", "mom=.9,.8", "--schedule", "one-cycle"}, {"--mom 0.9", "one-cycle"});
  wrong({"--vary", "schedule=constant,one-cycle", "--mom", ".9"}, {"--mom 0.9", "one-cycle"});
  wrong({"--vary", "seed=1,2"}, {"--seed holds for the whole study"});
  wrong({"--vary", "lr=1,2", "--within", "model"}, {"--within model"});
  wrong({"--vary", "sa=false,true", "--vary", "model=mxresnet18", "--sym"}, {"--model", "varies"});
  check_error(weft_run({"lab", "compare", "--vary", "sa=false,true", "--sym", "--out", at("never")}), 2,
              {"are the same runs"});
  check_error(weft_run({"lab", "depth", "--data", sample(), "--depths", "15,30"}), 2,
              {"--depths", "15 to 25"});
  check_error(weft_run({"lab", "depth", "--data", sample(), "--setup", "dirty"}), 2, {"published or clean"});
  check_error(weft_run({"lab", "depth", "--data", at("no-mnist")}), 1,
              {"no-mnist", "train-images-idx3-ubyte.gz", "--data"});
}

TEST_CASE("the depth study is a preset of compare") {
  for (const char* setup : {"published", "clean"}) {
    CAPTURE(setup);
    const Result r = weft_run({"lab",           "depth",      "--setup",  setup,
                               "--data",        sample(),     "--depths", "15,17-18",
                               "--runs",        "1",          "--epochs", "1",
                               "--batch-size",  "10",         "--size",   "16",
                               "--activations", "mish,swish", "--quiet",  "--out",
                               at(setup),       "--threads",  "2"});
    REQUIRE_MESSAGE(r.code == 0, r.err);
    const json cells = json_file(at(setup) + "/summary.json")["cells"];
    REQUIRE(cells.size() == 6);
    const std::string prefix = setup == std::string("clean") ? "plain" : "depth";
    CHECK(cells[3]["settings"] == json{{"model", prefix + "17"}, {"activation", "silu"}});
    CHECK(cells[3]["baseline"] == prefix + "17_mish");
    const json config = json_file(at(setup) + "/" + prefix + "18_silu/run-1/config.json");
    CHECK(config["lr"] == 0.01);
    CHECK(config["optimizer"] == "sgd");
    CHECK(config["wd"] == 0.0);
    CHECK(config["min_scale"] == 1.0);
    CHECK(config["flip"] == false);
    const std::string plot = read_file(at(setup) + "/plot.svg");
    CHECK(has(plot, ">18<"));
    CHECK(has(plot, ">mish<"));
    CHECK(weft_run({"lab", "depth", "--resume", at(setup), "--quiet"}).code == 0);
  }
}

TEST_CASE("reports of cells with gaps") {
  using namespace weft::app;
  Study s{.title = "gaps", .base = {}, .axes = {{"optimizer", {"sgd", "adam", "lion"}}}};
  s.base.runs = 3;
  for (const json& value : s.axes[0].values)
    s.cells.push_back({.name = value, .settings = {{"optimizer", value}}, .config = {}});
  const auto add = [&](size_t cell, int64_t run, double accuracy) {
    s.runs.push_back({.cell = cell, .run = run, .seed = uint64_t(run), .final_accuracy = accuracy});
  };
  CHECK(cells_alike(s).empty());
  add(0, 1, .5), add(0, 3, .6), add(1, 1, .6), add(1, 2, .9), add(1, 3, .72);
  s.runs.push_back({.cell = 0, .run = 2, .seed = 2, .diverged = "the loss is nan, \"here\""});
  const auto results = results_of(s);
  CHECK(cells_alike(s).empty());
  CHECK(results[1].difference.n == 2);  // seeds that both have
  CHECK(results[1].difference.mean == doctest::Approx(.11));
  CHECK(*results[1].p_holm == *results[1].difference.p);
  CHECK(results[0].diverged == 1);
  CHECK(results[2].accuracy.n == 0);
  const std::string report = study_report(s, results);
  CHECK(has(report, "3 are still to be made"));
  CHECK(has(report, "| lion | 0 | - | - | - | - | - | - | - | - | - |"));
  CHECK(has(results_csv(s), ",\"the loss is nan, \"\"here\"\"\""));
  CHECK(has(plot_study(s, results).svg(), ">adam<"));
}
