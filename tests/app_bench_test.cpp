// weft bench on the CPU: what its lines say, and that work and time make the rate.
#include <doctest/doctest.h>

#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <vector>

#include "support/command.h"

using nlohmann::json;
using namespace weft::test;

TEST_CASE("bench prints JSON lines") {
  const Result step =
      weft_run({"bench", "step", "--size", "32", "--batch-size", "2", "--steps", "1", "--json"});
  REQUIRE(step.code == 0);
  const json row = json::parse(step.out);
  for (const char* key :
       {"images_per_second", "effective_gflops", "peak_gflops", "share_of_peak", "kernels", "step_seconds"})
    CHECK_MESSAGE(row.contains(key), key);
  const double flops = 6 * row["multiply_adds"].get<double>() * row["images_per_second"].get<double>();
  CHECK(row["effective_gflops"].get<double>() == doctest::Approx(flops * 1e-9));
  CHECK(row["share_of_peak"].get<double>() ==
        doctest::Approx(row["effective_gflops"].get<double>() / row["peak_gflops"].get<double>()));

  const Result loader = weft_run({"bench", "loader", "--data", make_sample(32, 6, 2), "--size", "32",
                                  "--batch-size", "8", "--steps", "4", "--json"});
  REQUIRE(loader.code == 0);
  const json batches = json::parse(loader.out);
  CHECK(batches["images"] == 32);
  for (const char* key : {"images_per_second", "cached_images_per_second", "decode_ms", "resize_ms"})
    CHECK_MESSAGE(batches.at(key).get<double>() > 0, key);
  CHECK(batches.at("read_ms").get<double>() >= 0);
}

namespace {

/// The JSON lines of a benchmark.
std::vector<json> bench_rows(Arguments arguments) {
  arguments.insert(arguments.begin(), "bench");
  arguments.push_back("--json");
  const Result r = weft_run(arguments);
  INFO(r.err);
  REQUIRE(r.code == 0);
  std::vector<json> rows;
  for (const std::string& line : lines_of(r.out)) rows.push_back(json::parse(line));
  return rows;
}

}  // namespace

TEST_CASE("bench step takes lists and compares with the first case") {
  const auto rows =
      bench_rows({"step", "--model", "resnet20", "--size", "32,40", "--batch-size", "2", "--recompute",
                  "--activation", "mish,relu", "--threads", "1,2", "--steps", "1"});
  REQUIRE(rows.size() == 8);
  std::set<std::string> cases;
  for (const json& row : rows) {
    cases.insert(row["activation"].dump() + row["size"].dump() + row["batch_size"].dump() +
                 row["threads"].dump());
    CHECK(row["steps"] == 1);
    CHECK(row["time_over_first"].get<double>() ==
          doctest::Approx(row["step_seconds"].get<double>() / rows[0]["step_seconds"].get<double>()));
    CHECK(row["gflops_over_first"].get<double>() ==
          doctest::Approx(row["effective_gflops"].get<double>() / rows[0]["effective_gflops"].get<double>()));
  }
  CHECK(cases.size() == 8);
  CHECK(rows[0]["time_over_first"] == 1);
  CHECK(rows.back()["multiply_adds"].get<int64_t>() > rows[0]["multiply_adds"].get<int64_t>());
  check_error(weft_run({"bench", "step", "--batch-size", "8,none"}), 2, {"--batch-size"});
  check_error(weft_run({"bench", "step", "--activation", "mish,smish"}), 2, {"smish", "relu"});
}

TEST_CASE("bench step --inference counts one pass") {
  const auto rows = bench_rows(
      {"step", "--model", "resnet20", "--size", "32", "--batch-size", "1,3", "--steps", "2", "--inference"});
  REQUIRE(rows.size() == 2);
  for (const json& row : rows) {
    CHECK(row["inference"] == true);
    const double flops = 2 * row["multiply_adds"].get<double>() * row["images_per_second"].get<double>();
    CHECK(row["effective_gflops"].get<double>() == doctest::Approx(flops * 1e-9));
  }
  check_error(weft_run({"bench", "step", "--inference", "--breakdown"}), 2, {"--inference", "--breakdown"});
}

TEST_CASE("bench step --breakdown accounts for the whole step") {
  const Arguments step{"step", "--size", "32", "--batch-size", "2", "--steps", "2", "--sa"};
  for (const std::string kind : {"ops", "layers"}) {
    Arguments arguments = step;
    arguments.push_back("--breakdown");
    if (kind == "layers") arguments.push_back("layers");
    double passes = 0, details = 0;
    std::map<std::string, json> found;
    for (const json& row : bench_rows(arguments)) {
      CHECK(row["breakdown"] == kind);
      const bool detail = row["pass"] != "other" && row["name"] != "all";
      (detail ? details : passes) += row["share_of_step"].get<double>();
      if (row["pass"] == "other") details += row["share_of_step"].get<double>();
      found[row["name"].get<std::string>() + " " + row["pass"].get<std::string>()] = row;
    }
    CHECK(passes == doctest::Approx(1));
    CHECK(details == doctest::Approx(1));
    for (const char* name : {"all forward", "all backward", "optimizer other", "rest other"})
      CHECK_MESSAGE(found.count(name), name);
    const std::string conv = kind == "ops" ? "conv2d" : "stem.0.conv";
    REQUIRE(found.count(conv + " backward"));
    CHECK(found[conv + " backward"].contains("share_of_peak"));
    CHECK(found[conv + " forward"]["calls"] == (kind == "ops" ? 22 : 1));
  }
  check_error(weft_run({"bench", "step", "--breakdown", "--size", "32,64"}), 2, {"--size", "one value"});
  for (const Arguments& colours : {Arguments{"--breakdown=colours"}, Arguments{"--breakdown", "colours"}})
    check_error(weft_run(Arguments{"bench", "step"} + colours), 2, {"--breakdown", "layers"});
}

TEST_CASE("bench op measures every family") {
  std::map<std::string, std::vector<json>> families;
  for (const json& row : bench_rows({"op", "--size", "32", "--batch-size", "2", "--seconds", "0.0001"})) {
    families[row["family"].get<std::string>()].push_back(row);
    INFO(row.dump());
    CHECK(row["milliseconds"].get<double>() > 0);
    const bool compute = row.contains("gflops"), memory = row.contains("gigabytes_per_second");
    CHECK(!(compute && memory));
    if (compute)
      CHECK(row["share_of_peak"].get<double>() ==
            doctest::Approx(row["gflops"].get<double>() / row["peak_gflops"].get<double>()));
    if (memory)
      CHECK(row["share_of_copy"].get<double>() ==
            doctest::Approx(row["gigabytes_per_second"].get<double>() /
                            row["copy_gigabytes_per_second"].get<double>()));
  }
  CHECK(families.size() == 11);
  const auto find = [&](const std::string& family, const std::string& op, const std::string& shape,
                        const std::string& pass) {
    for (const json& row : families[family])
      if (row["op"] == op && row["shape"] == shape && row["pass"] == pass) return row;
    FAIL_CHECK("no ", family, " ", op, " ", shape, " ", pass);
    return json::object();
  };
  // A rate is work over time: bytes and multiply-adds are those of the shape.
  const auto work = [](const json& row, const char* rate) {
    return row.value(rate, 0.0) * row.value("milliseconds", 0.0) * 1e6;
  };
  const double n = 2 * 16 * 16 * 64;
  CHECK(work(find("activation", "mish", "2x16x16x64", "forward"), "gigabytes_per_second") ==
        doctest::Approx(2 * 4 * n));
  CHECK(work(find("norm", "batch_norm", "2x8x8x64 train + residual + mish", "backward"),
             "gigabytes_per_second") == doctest::Approx(5 * n));
  CHECK(work(find("matmul", "matmul", "512x512, 512x512", "backward"), "gflops") ==
        doctest::Approx(4.0 * 512 * 512 * 512));
  CHECK(work(find("attention", "SimpleSelfAttention", "2x8x8x64", "forward"), "gflops") > 0);
  CHECK(find("conv", "conv2d", "64->64 3x3 @8", "backward_input")["count"] == 4);
  CHECK(find("conv", "conv", "all of a step", "all").contains("share_of_peak"));
  CHECK(find("pool", "global_avg_pool", "2x1x1x512", "forward").contains("share_of_copy"));
  for (const json& row : families["conv"])
    CHECK(!(row["shape"] == "3->32 3x3 s2 @32" && row["pass"] == "backward_input"));

  const auto chosen = bench_rows({"op", "--size", "32", "--batch-size", "2", "--seconds", "0.0001", "--only",
                                  "loss,dropout", "--filter", "2x"});
  REQUIRE(chosen.size() == 8);  // three losses and dropout, two passes each
  CHECK(chosen.front()["family"] == "loss");
  CHECK(chosen.back()["family"] == "dropout");
  check_error(weft_run({"bench", "op", "--only", "conv,poetry"}), 2, {"poetry", "activation"});
  check_error(weft_run({"bench", "op", "--filter", "xyzzy"}), 2, {"xyzzy"});
}
