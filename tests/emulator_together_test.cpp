// Blocks that run together and meet, in the emulator (tests/emulator).
#include <cuda_runtime.h>
#include <doctest/doctest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "emulator/testing.h"
#include "weft/kernels/cuda/together.h"

using namespace weft_emulator::testing;
using weft_emulator::meet;

namespace {

[[maybe_unused]] const bool is_set = [] {
  weft_emulator::set_deferred(false);  // whatever the environment says
  weft_emulator::properties().multiProcessorCount = 60;
  return true;
}();

template <class... Expected, class... Actual>
cudaError_t launch_together_in(cudaStream_t stream, void (*kernel)(Expected...), dim3 grid, dim3 block,
                               Actual... arguments) {
  cudaLaunchAttribute attribute{};
  attribute.id = cudaLaunchAttributeCooperative;
  attribute.val.cooperative = 1;
  const cudaLaunchConfig_t config{grid, block, 0, stream, &attribute, 1};
  return cudaLaunchKernelEx(&config, kernel, arguments...);
}
template <class... Expected, class... Actual>
cudaError_t launch_together(void (*kernel)(Expected...), dim3 grid, dim3 block, Actual... arguments) {
  return launch_together_in(nullptr, kernel, grid, block, arguments...);
}

// Sums of the same threads of both neighbours in the group, many times, by way of global memory; wrong if a
// meeting lets a block through too early, or if a block does not find its own shared memory again.
__global__ void sums_of_neighbours(const unsigned* x, unsigned* steps_of_y, int steps) {
  __shared__ unsigned char own[40];
  const unsigned i = threadIdx.x, size = gridDim.y, rank = blockIdx.y, first = blockIdx.x * size;
  const unsigned n = gridDim.x * size * 40;
  const auto at = [&](unsigned block, unsigned thread) { return (first + block % size) * 40 + thread % 40; };
  steps_of_y[at(rank, i)] = x[at(rank, i)];
  own[i] = static_cast<unsigned char>(at(rank, i));
  for (int step = 0; step < steps; ++step) {
    meet();
    const unsigned* const from = steps_of_y + static_cast<unsigned>(step) * n;
    steps_of_y[static_cast<unsigned>(step + 1) * n + at(rank, i)] =
        from[at(rank + 1, i + 1)] + from[at(rank + size - 1, i)] + own[i];
  }
}

TEST_CASE("meetings hold all blocks of a group, again and again") {
  constexpr int steps = 9;
  for (const unsigned size : {1u, 2u, 3u, 8u, 30u}) {
    const unsigned n = 2 * size * 40;
    std::vector<unsigned> expected = count_up<unsigned>(n, 7);
    Array<unsigned> x(expected), y(n * (steps + 1));
    for (int step = 0; step < steps; ++step) {
      const std::vector<unsigned> old = expected;
      for (unsigned at = 0; at < n; ++at) {
        const unsigned block = at / 40, first = block / size * size, rank = block % size;
        expected[at] = old[(first + (rank + 1) % size) * 40 + (at + 1) % 40] +
                       old[(first + (rank + size - 1) % size) * 40 + at % 40] + at % 256;
      }
    }
    for (uint64_t seed = 1; seed <= 12; ++seed) {
      CAPTURE(size);
      CAPTURE(seed);
      weft_emulator::set_seed(seed);
      REQUIRE(launch_together(sums_of_neighbours, dim3(2, size), 40, x.data(), y.data(), steps) ==
              cudaSuccess);
      const std::vector<unsigned> all = y.host();
      CHECK(std::equal(expected.begin(), expected.end(), all.end() - n));
    }
  }
}

__global__ void turns_of_blocks(unsigned* turns, unsigned* next) {
  const unsigned block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
  turns[block] = atomicAdd(next, 1u);
  meet();
  turns[gridDim.x * gridDim.y * gridDim.z + block] = atomicAdd(next, 1u);
}

/// Of 4 groups of 2 x 3 blocks.
std::vector<unsigned> turns_by(uint64_t seed) {
  weft_emulator::set_seed(seed);
  Array<unsigned> turns(2 * 24), next(std::vector<unsigned>{0});
  REQUIRE(launch_together(turns_of_blocks, dim3(4, 2, 3), 1, turns.data(), next.data()) == cudaSuccess);
  const std::vector<unsigned> t = turns.host();
  for (unsigned block = 0; block < 24; ++block) {
    CHECK(t[block] / 12 == t[block % 4] / 12);  // a group runs to its end before the next
    CHECK(t[block] % 12 < 6);
    CHECK(t[24 + block] / 12 == t[block % 4] / 12);
    CHECK(t[24 + block] % 12 >= 6);
  }
  return t;
}

TEST_CASE("groups and their blocks come in an order made by the seed") {
  const std::vector<unsigned> one = turns_by(1);
  CHECK(turns_by(1) == one);
  const std::vector<unsigned> two = turns_by(2);
  CHECK(two != one);
  const auto of_first_group = [](const std::vector<unsigned>& turns, size_t after) {
    std::vector<unsigned> found;
    for (size_t block = 0; block < 24; block += 4) found.push_back(turns[after + block] % 6);
    return found;
  };
  CHECK(of_first_group(two, 0) != of_first_group(one, 0));
  CHECK(of_first_group(one, 24) != of_first_group(one, 0));  // another one after the meeting
}

// In the group's last block most threads return at once, before or after the others have come.
__global__ void some_return(unsigned* mark, unsigned* seen, unsigned n) {
  const unsigned i = blockIdx.y * blockDim.x + threadIdx.x;
  if (threadIdx.x == 0) mark[blockIdx.y] = 10 + blockIdx.y;
  if (i >= n) return;
  meet();
  seen[i] = mark[(blockIdx.y + 1) % gridDim.y];
}

TEST_CASE("a meeting does not wait for threads that have returned") {
  for (const unsigned n : {3 * 70 + 1u, 3 * 70 + 40u}) {
    for (uint64_t seed = 1; seed <= 8; ++seed) {
      weft_emulator::set_seed(seed);
      Array<unsigned> mark(4), seen(n);
      REQUIRE(launch_together(some_return, dim3(1, 4), 70, mark.data(), seen.data(), n) == cudaSuccess);
      const std::vector<unsigned> values = seen.host();
      for (unsigned i = 0; i < n; ++i) CHECK(values[i] == 10 + (i / 70 + 1) % 4);
    }
  }
}

TEST_CASE("blocks of a captured launch meet") {
  Array<unsigned> turns(2 * 24), next(std::vector<unsigned>{0});
  cudaStream_t stream;
  REQUIRE(cudaStreamCreate(&stream) == cudaSuccess);
  REQUIRE(cudaStreamBeginCapture(stream, cudaStreamCaptureModeRelaxed) == cudaSuccess);
  REQUIRE(launch_together_in(stream, turns_of_blocks, dim3(1, 24), 1, turns.data(), next.data()) ==
          cudaSuccess);
  cudaGraph_t graph;
  cudaGraphExec_t executable;
  REQUIRE(cudaStreamEndCapture(stream, &graph) == cudaSuccess);
  REQUIRE(cudaGraphInstantiate(&executable, graph) == cudaSuccess);
  REQUIRE(cudaGraphLaunch(executable, stream) == cudaSuccess);
  REQUIRE(cudaStreamSynchronize(stream) == cudaSuccess);
  const std::vector<unsigned> t = turns.host();
  for (unsigned block = 0; block < 24; ++block) CHECK((t[block] < 24 && t[24 + block] >= 24));
  CHECK(cudaGraphExecDestroy(executable) == cudaSuccess);
  CHECK(cudaGraphDestroy(graph) == cudaSuccess);
  CHECK(cudaStreamDestroy(stream) == cudaSuccess);
}

using weft::kernels::cuda::Told;
using weft::kernels::cuda::Turns;

// Each block tells `base` and its number, and adds up what all of its group tell.
__global__ void sums_of_told(Turns* turns, Told* told, float base, float* sums) {
  __shared__ unsigned turn;
  if (threadIdx.x == 0) turn = turns->next();
  __syncthreads();
  Told* const group = told + blockIdx.x * gridDim.y;
  if (threadIdx.x == 0) group[blockIdx.y].tell(turn, base, float(blockIdx.y));
  weft::kernels::cuda::let_others_tell();
  float sum = 0;
  for (unsigned block = 0; block < gridDim.y; ++block) {
    const Told part = group[block].hear(turn, group[block].look());
    sum += part.value(0) + part.value(1);
  }
  if (threadIdx.x == 0) turns->done(turn);
  sums[(blockIdx.x * gridDim.y + blockIdx.y) * blockDim.x + threadIdx.x] = sum;
}

TEST_CASE("each kernel has a turn, also where their count begins anew, whatever groups there are") {
  for (const unsigned had : {0u, 0xfffffffdu}) {
    Array<Turns> turns(std::vector<Turns>{{had, 0}});
    Array<Told> told(std::vector<Told>(60, Told{}));
    unsigned expected_turn = had;
    for (int launches = 0; launches < 5; ++launches)
      for (const dim3 groups : {dim3(3, 1), dim3(1, 7), dim3(9, 6), dim3(3, 20)}) {
        Array<float> sums(int64_t{33} * groups.x * groups.y);
        const float base = float(launches * 100), size = float(groups.y);
        REQUIRE(launch_together_in(nullptr, sums_of_told, groups, 33, turns.data(), told.data(), base,
                                   sums.data()) == cudaSuccess);
        const std::vector<float> found = sums.host();
        CHECK(std::count(found.begin(), found.end(), size * base + size * (size - 1) / 2) ==
              std::ptrdiff_t(found.size()));
        if (++expected_turn == 0) expected_turn = 1;
        CHECK(turns.host()[0].had == expected_turn);
        CHECK(turns.host()[0].done_blocks == 0);
        CHECK(told.host()[0].is_of(expected_turn));
      }
  }
}

__global__ void nothing(int) {}

TEST_CASE("each block that runs together with others needs a multiprocessor") {
  CHECK(launch_together(nothing, dim3(2, 30), 40, 0) == cudaSuccess);
  CHECK(launch_together(nothing, dim3(2, 31), 40, 0) == cudaErrorCooperativeLaunchTooLarge);
  CHECK(launch(nothing, dim3(2, 31), 40, 0) == cudaSuccess);
}

// Wrong kernels.
__global__ void one_block_less(int) {
  meet();
  if (blockIdx.y != 1) meet();
}
__global__ void half_at_meeting(int) {
  if (threadIdx.x < 32) {
    meet();
  } else {
    __syncthreads();
  }
}
__global__ void meets(int) { meet(); }

TEST_CASE("wrong meetings end the program, and it says why") {
  const auto check_words = [](void (*action)(), const char* expected) {
    const std::string words = last_words(action);
    CHECK_MESSAGE(words.find(expected) != words.npos, words);
  };
  check_words([] { launch_together(one_block_less, dim3(1, 2), 32, 0); },
              "block (0, 0, 0) waits for meeting 1, and block (0, 1, 0) has returned");
  check_words([] { launch_together(half_at_meeting, dim3(1, 2), 64, 0); }, "32 for other blocks");
  check_words([] { launch(meets, 2, 1, 0); }, "meets others, but was not launched so");
}

}  // namespace
