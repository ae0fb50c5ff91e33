#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>

#include <cstdio>
#include <cstdlib>
#include <string>

#include "support/test_device.h"
#include "weft/kernels/cuda.h"

// A test that needs a real GPU (WEFT_TEST_DEVICE=gpu) says so and is skipped where there is none; with
// WEFT_REQUIRE_GPU=1 it fails there, so that a run meant for a GPU can't be green by skipping.
int main(int argc, char** argv) {
  std::string why;
  if (weft::test::on_gpu() && weft::kernels::cuda::device_count(&why) == 0) {
    const char* required = std::getenv("WEFT_REQUIRE_GPU");
    const bool fails = required && std::string(required) == "1";
    std::printf("%s: %s\n", fails ? "FAILED, WEFT_REQUIRE_GPU=1" : "SKIPPED", why.c_str());
    return fails ? 1 : 77;
  }
  doctest::Context context(argc, argv);
  return context.run();
}
