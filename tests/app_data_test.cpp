// weft train on MNIST's files, with each loss and all augmentations; an exact resume with them.
#include <doctest/doctest.h>

#include <nlohmann/json.hpp>

#include "support/command.h"
#include "weft/engine/file.h"

using nlohmann::json;
using weft::read_file;
using weft::write_file;
using namespace weft::test;

namespace {

std::string big_endian(std::initializer_list<uint32_t> numbers) {
  std::string bytes;
  for (const uint32_t n : numbers)
    for (int shift = 24; shift >= 0; shift -= 8) bytes += char(n >> shift);
  return bytes;
}

/// 40 training and 20 validation pictures, with more or fewer bright rows by label.
const std::string& digits() {
  static const std::string path = [] {
    fs::create_directories(at("digits"));
    for (const auto& [name, n] : {std::pair<std::string, uint32_t>{"train", 40}, {"t10k", 20}}) {
      std::string images = big_endian({0x803, n, 12, 12}), labels = big_endian({0x801, n});
      for (uint32_t i = 0; i < n; ++i) {
        for (uint32_t p = 0; p < 144; ++p) images += char(p / 12 <= i % 10 ? 200 + p % 30 : i * 7 + p % 20);
        labels += char(i % 10);
      }
      write_file(at("digits/" + name + "-images-idx3-ubyte"), images);
      write_file(at("digits/" + name + "-labels-idx1-ubyte"), labels);
    }
    return at("digits");
  }();
  return path;
}

Result train(const std::string& out, Arguments more) {
  Arguments all = {"train",     "--data",   digits(),  "--size",    "12",    "--batch-size",
                   "10",        "--epochs", "2",       "--no-flip", "--lr",  "0.001",
                   "--threads", "2",        "--model", "resnet20",  "--out", at(out)};
  all.insert(all.end(), more.begin(), more.end());
  return weft_run(all);
}

}  // namespace

TEST_CASE("data verify counts the classes of MNIST's files") {
  const Result r = weft_run({"data", "verify", digits(), "--json"});
  CHECK(r.code == 0);
  const json counts = json::parse(r.out);
  CHECK(counts["images"] == 60);
  CHECK(counts["classes"]["7"]["train"] == 4);
  CHECK(counts["classes"]["7"]["val"] == 2);
}

TEST_CASE("each loss trains, and config.json says so") {
  for (const std::string loss : {"cross-entropy", "bce", "focal"}) {
    CAPTURE(loss);
    const Result r = train(loss, {"--loss", loss, "--focal-gamma", "1.5", "--overwrite"});
    INFO(r.err);
    REQUIRE(r.code == 0);
    const json config = json::parse(read_file(at(loss) + "/config.json"));
    CHECK(config["loss"] == loss);
    CHECK(config["flip"] == false);
    const json summary = json::parse(read_file(at(loss) + "/summary.json"));
    CHECK(summary["final_train_loss"].get<double>() > 0);
    CHECK(summary["final_val_loss"].get<double>() > 0);
  }
  const auto loss_of = [](const std::string& run) {
    return json::parse(read_file(at(run) + "/summary.json"))["final_train_loss"].get<double>();
  };
  CHECK(loss_of("bce") != loss_of("cross-entropy"));
  CHECK(loss_of("focal") < loss_of("cross-entropy"));
}

TEST_CASE("a resumed run goes on with the same augmentations") {
  const Arguments all = {
      "--jitter", "0.4,0.4,0.4,0.1", "--erase", "0.5",   "--mixup", "0.4",        "--cutmix",
      "1",        "--loss",          "bce",     "--pad", "3",       "--pad-mode", "reflect"};
  const Result whole = train("whole", all);
  INFO(whole.err);
  REQUIRE(whole.code == 0);
  Arguments part = all;
  part.insert(part.end(), {"--stop-after-steps", "3"});
  CHECK(train("part", part).code == 1);
  CHECK(weft_run({"train", "--resume", at("part"), "--threads", "1"}).code == 0);
  CHECK(read_file(at("whole") + "/model.safetensors") == read_file(at("part") + "/model.safetensors"));
  CHECK(train("plain", {"--loss", "bce"}).code == 0);
  CHECK(read_file(at("whole") + "/model.safetensors") != read_file(at("plain") + "/model.safetensors"));
}

TEST_CASE("wrong values of the new flags") {
  check_error(train("x", {"--loss", "hinge"}), 2, {"--loss", "hinge", "cross-entropy", "focal"});
  check_error(train("x", {"--jitter", "1,2"}), 2, {"--jitter", "B,C,S,H"});
  check_error(train("x", {"--erase", "2"}), 2, {"--erase", "0 to 1"});
  check_error(train("x", {"--cutmix", "-1"}), 2, {"--cutmix"});
}
