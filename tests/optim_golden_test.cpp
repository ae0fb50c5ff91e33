// Every name of the registry against stored reference values: golden/optim/NAME.safetensors, by PyTorch or
// the authors' formulas (the scripts beside the files say which).
#include <doctest/doctest.h>

#include <filesystem>
#include <string>

#include "support/golden.h"
#include "support/optim_problem.h"
#include "weft/engine/safetensors.h"

using namespace weft;
using namespace weft::optim;
using weft::testing::Problem;
using weft::testing::registered;
using weft::testing::trajectory_difference;

namespace {

std::string file_of(const std::string& name) {
  return concat(WEFT_TEST_DIR "/golden/optim/", name, ".safetensors");
}

void compare(const std::string& name, DType dtype, const golden::Tolerance& tolerance) {
  INFO(name, " in ", dtype);
  REQUIRE_MESSAGE(std::filesystem::exists(file_of(name)), file_of(name));
  const StateDict file = load_safetensors(file_of(name));
  const Tensor stored = find(file, "trajectory"), h = find(file, "hyper");
  const Problem problem(dtype);
  const auto optimizer =
      registered(name, {.lr = h.at(0), .mom = h.at(1), .sqrmom = h.at(2), .eps = h.at(3), .wd = h.at(4)})
          .make(problem.group0(), problem.group1());
  CHECK(trajectory_difference(problem, *optimizer, stored, tolerance) == "");
}

}  // namespace

TEST_CASE("100 steps of every name are those of PyTorch or of the authors' formulas") {
  for (const std::string& name : optimizer_names()) {
    compare(name, DType::f64, {.rtol = 1e-9, .atol = 1e-11});
    compare(name, DType::f32, {.rtol = 2e-5, .atol = 2e-6});
  }
}
