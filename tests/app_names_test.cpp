// Every optimizer and every activation by its name in weft train: it runs, and goes on after a stop to the
// same bits.
#include <doctest/doctest.h>

#include <nlohmann/json.hpp>
#include <sstream>

#include "support/command.h"

using namespace weft::test;
using nlohmann::json;
using weft::read_file;

namespace {

const std::string& sample() {
  static const std::string path = make_sample(24, 2, 1);
  return path;
}

/// The names that weft lab lists.
std::vector<std::string> listed(const char* what) {
  const Result r = weft_run({"lab", what, "--list", "--json"});
  REQUIRE(r.code == 0);
  std::vector<std::string> names;
  std::istringstream in(r.out);
  for (std::string line; std::getline(in, line);) {
    const json row = json::parse(line);
    names.push_back(row.at("name"));
    CHECK(!row.at("description").get<std::string>().empty());
  }
  return names;
}

/// Two epochs of two steps of a small network.
Result train(const std::string& name, const Arguments& more) {
  Arguments all = {"train",  "--data",      sample(),   "--model", "mlp",          "--out", at(name),
                   "--size", "8",           "--epochs", "2",       "--batch-size", "10",    "--lr",
                   "1e-3",   "--min-scale", "0.7",      "--quiet", "--threads",    "1",     "--overwrite"};
  all.insert(all.end(), more.begin(), more.end());
  return weft_run(all);
}

void goes_on(const Arguments& choice) {
  const Result whole = train("whole", choice);
  CHECK_MESSAGE(whole.code == 0, whole.err);
  Arguments stopping = choice;
  stopping.insert(stopping.end(), {"--stop-after-steps", "3"});
  CHECK(train("parts", stopping).code == 1);
  const Result resumed = weft_run({"train", "--resume", at("parts"), "--quiet", "--threads", "1"});
  CHECK_MESSAGE(resumed.code == 0, resumed.err);
  CHECK(read_file(at("whole/model.safetensors")) == read_file(at("parts/model.safetensors")));
}

}  // namespace

TEST_CASE("every optimizer") {
  const std::vector<std::string> names = listed("optimizers");
  CHECK(names.size() >= 38);
  for (const std::string& name : names) {
    CAPTURE(name);
    goes_on({"--optimizer", name});
  }
}

TEST_CASE("every activation") {
  const std::vector<std::string> names = listed("activations");
  CHECK(names.size() >= 43);
  for (const std::string& name : names) {
    CAPTURE(name);
    const Result r = train("activation", {"--activation", name});
    CHECK_MESSAGE(r.code == 0, r.err);
  }
}
