// Clusters of thread blocks in the emulator (tests/emulator), and blocks that all run together.
#include <cuda_runtime.h>
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "emulator/testing.h"

using namespace weft_emulator::testing;

namespace {

[[maybe_unused]] const bool at_once =
    (weft_emulator::set_deferred(false), true);  // whatever the environment says

unsigned cluster_rank() { return __clusterRelativeBlockRank(); }
unsigned cluster_size() { return __clusterSizeInBlocks(); }
void cluster_sync() {
  __cluster_barrier_arrive();
  __cluster_barrier_wait();
}
template <class T>
T* in_cluster(T* place, unsigned rank) {
  return static_cast<T*>(__cluster_map_shared_rank(place, rank));
}

template <class... Expected, class... Actual>
cudaError_t launch_cluster(void (*kernel)(Expected...), dim3 grid, dim3 block, dim3 cluster,
                           Actual... arguments) {
  cudaLaunchAttribute attribute{};
  attribute.id = cudaLaunchAttributeClusterDimension;
  attribute.val.clusterDim = {cluster.x, cluster.y, cluster.z};
  const cudaLaunchConfig_t config{grid, block, 0, nullptr, &attribute, 1};
  return cudaLaunchKernelEx(&config, kernel, arguments...);
}
void allow_16(auto* kernel) {
  REQUIRE(cudaFuncSetAttribute(kernel, cudaFuncAttributeNonPortableClusterSizeAllowed, 1) == cudaSuccess);
}

// Each cluster adds up its slice of x, block by block and then over the blocks.
template <int threads>
__global__ void cluster_sums(const float* x, float* sums, int n) {
  __shared__ float room[threads], partial;
  const int i = static_cast<int>(blockIdx.x) * threads + static_cast<int>(threadIdx.x);
  room[threadIdx.x] = i < n ? x[i] : 0;
  __syncthreads();
  if (threadIdx.x == 0) {
    partial = 0;
    for (const float value : room) partial += value;
  }
  cluster_sync();
  float sum = 0;
  for (unsigned rank = 0; rank < cluster_size(); ++rank) sum += *in_cluster(&partial, rank);
  cluster_sync();
  if (threadIdx.x == 0) sums[blockIdx.x] = sum;
}

TEST_CASE("blocks of a cluster add up what each has in its shared memory") {
  constexpr int threads = 48;
  allow_16(&cluster_sums<threads>);
  for (const unsigned size : {1u, 2u, 8u, 16u}) {
    const unsigned blocks = 3 * size;
    const int n = static_cast<int>(blocks) * threads - 30;  // the last block isn't full
    Array<float> x(count_up<float>(static_cast<size_t>(n))), sums(blocks);
    for (uint64_t seed = 1; seed <= 12; ++seed) {
      CAPTURE(size);
      CAPTURE(seed);
      weft_emulator::set_seed(seed);
      REQUIRE(launch_cluster(&cluster_sums<threads>, blocks, threads, size, x.data(), sums.data(), n) ==
              cudaSuccess);
      const std::vector<float> values = sums.host();
      for (unsigned block = 0; block < blocks; ++block) {
        const int begin = static_cast<int>(block / size * size) * threads;
        const int end = std::min(n, begin + static_cast<int>(size) * threads);
        CHECK(values[block] == float(int64_t{end - begin} * (begin + end - 1) / 2));
      }
    }
  }
}

// Sums of the same threads of both neighbours in the cluster, many times; wrong if a barrier lets a block
// through too early, or if a block does not find its own shared memory again.
__global__ void sums_of_neighbours(const unsigned* x, unsigned* y, int steps) {
  __shared__ unsigned values[2][40];
  __shared__ unsigned char own[40];
  const unsigned i = threadIdx.x, at = blockIdx.x * 40 + i, size = cluster_size(), rank = cluster_rank();
  values[0][i] = x[at];
  own[i] = static_cast<unsigned char>(at);
  for (int step = 0; step < steps; ++step) {
    cluster_sync();
    const unsigned* const from = values[step % 2];
    values[(step + 1) % 2][i] = in_cluster(from, (rank + 1) % size)[(i + 1) % 40] +
                                in_cluster(from + i, (rank + size - 1) % size)[0] + own[i];
  }
  cluster_sync();
  y[at] = values[steps % 2][i];
}

TEST_CASE("barriers hold all blocks of a cluster, again and again") {
  allow_16(sums_of_neighbours);
  constexpr int steps = 9;
  for (const unsigned size : {1u, 2u, 3u, 8u, 16u}) {
    const unsigned n = 2 * size * 40;
    std::vector<unsigned> expected = count_up<unsigned>(n, 7);
    Array<unsigned> x(expected), y(n);
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
      REQUIRE(launch_cluster(sums_of_neighbours, 2 * size, 40, size, x.data(), y.data(), steps) ==
              cudaSuccess);
      CHECK(y.host() == expected);
    }
  }
}

TEST_CASE("without a cluster a block is one alone") {
  Array<unsigned> x(count_up<unsigned>(3 * 40)), y(3 * 40);
  REQUIRE(weft_emulator::testing::launch(sums_of_neighbours, 3, 40, x.data(), y.data(), 1) == cudaSuccess);
  const std::vector<unsigned> values = y.host();
  for (unsigned at = 0; at < 3 * 40; ++at)
    CHECK(values[at] == at / 40 * 40 + (at % 40 + 1) % 40 + at + at % 256);
}

__global__ void where_in_cluster(unsigned* ranks, unsigned* turns, unsigned* next) {
  const unsigned block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
  ranks[block] = cluster_size() * 100 + cluster_rank();
  turns[block] = atomicAdd(next, 1u);
  cluster_sync();
  turns[gridDim.x * gridDim.y * gridDim.z + block] = atomicAdd(next, 1u);
}

std::vector<unsigned> turns_of_blocks(uint64_t seed) {
  weft_emulator::set_seed(seed);
  Array<unsigned> ranks(48), turns(2 * 48), next(std::vector<unsigned>{0});
  REQUIRE(launch_cluster(where_in_cluster, dim3(4, 2, 6), 1, dim3(2, 1, 3), ranks.data(), turns.data(),
                         next.data()) == cudaSuccess);
  const std::vector<unsigned> seen = ranks.host(), t = turns.host();
  for (unsigned block = 0; block < 48; ++block) {
    const unsigned x = block % 4, y = block / 4 % 2, z = block / 8;
    CHECK(seen[block] == 600 + z % 3 * 2 + x % 2);
    const unsigned first = (z / 3 * 3 * 2 + y) * 4 + x / 2 * 2;  // of the cluster
    CHECK(t[block] / 12 == t[first] / 12);                       // a cluster runs to its end before the next
    CHECK(t[block] % 12 < 6);
    CHECK(t[48 + block] / 12 == t[first] / 12);
    CHECK(t[48 + block] % 12 >= 6);
  }
  return t;
}

TEST_CASE("clusters have three dimensions, and they and their blocks come in an order made by the seed") {
  const std::vector<unsigned> one = turns_of_blocks(1);
  CHECK(turns_of_blocks(1) == one);
  const std::vector<unsigned> two = turns_of_blocks(2);
  CHECK(two != one);
  const auto of_first_cluster = [](const std::vector<unsigned>& turns, size_t after) {
    std::vector<unsigned> found;
    for (const size_t block : {0, 1, 8, 9, 16, 17}) found.push_back(turns[after + block] % 6);
    return found;
  };
  CHECK(of_first_cluster(two, 0) != of_first_cluster(one, 0));
  CHECK(of_first_cluster(one, 48) != of_first_cluster(one, 0));  // another one after the barrier
}

// In the cluster's last block most threads return at once, before or after the others have come to the
// barrier.
__global__ void some_return(unsigned* seen, unsigned n) {
  __shared__ unsigned mark;
  const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
  if (threadIdx.x == 0) mark = 10 + blockIdx.x;
  if (i >= n) return;
  cluster_sync();
  seen[i] = *in_cluster(&mark, (cluster_rank() + 1) % cluster_size());
  cluster_sync();
}

TEST_CASE("a cluster's barrier does not wait for threads that have returned") {
  for (const unsigned n : {3 * 70 + 1u, 3 * 70 + 40u}) {
    for (uint64_t seed = 1; seed <= 8; ++seed) {
      weft_emulator::set_seed(seed);
      Array<unsigned> seen(n);
      REQUIRE(launch_cluster(some_return, 4, 70, 4, seen.data(), n) == cudaSuccess);
      const std::vector<unsigned> values = seen.host();
      for (unsigned i = 0; i < n; ++i) CHECK(values[i] == 10 + (i / 70 + 1) % 4);
    }
  }
}

__global__ void read_too_early(float* seen) {
  __shared__ float value;
  value = 1;
  seen[blockIdx.x] = *in_cluster(&value, 1 - cluster_rank());
  cluster_sync();
}

TEST_CASE("a block finds NaN in the shared memory of one that has not begun") {
  Array<float> seen(6);
  REQUIRE(launch_cluster(read_too_early, 6, 1, 2, seen.data()) == cudaSuccess);
  const std::vector<float> values = seen.host();
  for (int i = 0; i < 6; i += 2) CHECK(std::isnan(values[i]) != std::isnan(values[i + 1]));  // one came first
}

TEST_CASE("a captured launch keeps its clusters") {
  Array<unsigned> ranks(48), turns(2 * 48), next(std::vector<unsigned>{0});
  cudaStream_t stream;
  REQUIRE(cudaStreamCreate(&stream) == cudaSuccess);
  REQUIRE(cudaStreamBeginCapture(stream, cudaStreamCaptureModeRelaxed) == cudaSuccess);
  {
    cudaLaunchAttribute attribute{};
    attribute.id = cudaLaunchAttributeClusterDimension;
    attribute.val.clusterDim = {4, 2, 1};
    const cudaLaunchConfig_t config{dim3(4, 2, 6), 1, 0, stream, &attribute, 1};
    REQUIRE(cudaLaunchKernelEx(&config, where_in_cluster, ranks.data(), turns.data(), next.data()) ==
            cudaSuccess);
  }
  cudaGraph_t graph;
  cudaGraphExec_t executable;
  REQUIRE(cudaStreamEndCapture(stream, &graph) == cudaSuccess);
  REQUIRE(cudaGraphInstantiate(&executable, graph) == cudaSuccess);
  REQUIRE(cudaGraphLaunch(executable, stream) == cudaSuccess);
  REQUIRE(cudaStreamSynchronize(stream) == cudaSuccess);
  const std::vector<unsigned> seen = ranks.host();
  for (unsigned block = 0; block < 48; ++block) CHECK(seen[block] == 800 + block % 8);
  CHECK(cudaGraphExecDestroy(executable) == cudaSuccess);
  CHECK(cudaGraphDestroy(graph) == cudaSuccess);
  CHECK(cudaStreamDestroy(stream) == cudaSuccess);
}

__global__ void nothing(int) {}

TEST_CASE("impossible clusters give CUDA's errors") {
  CHECK(launch_cluster(nothing, 8, 1, 8, 0) == cudaSuccess);
  CHECK(launch_cluster(nothing, dim3(4, 4), 1, dim3(4, 2), 0) == cudaSuccess);
  CHECK(launch_cluster(nothing, 9, 1, 2, 0) == cudaErrorInvalidClusterSize);
  CHECK(launch_cluster(nothing, dim3(4, 3), 1, dim3(1, 2), 0) == cudaErrorInvalidClusterSize);
  CHECK(launch_cluster(nothing, dim3(4, 4, 5), 1, dim3(1, 1, 2), 0) == cudaErrorInvalidClusterSize);
  CHECK(launch_cluster(nothing, 8, 1, 0, 0) == cudaErrorInvalidClusterSize);
  CHECK(launch_cluster(nothing, 16, 1, 16, 0) == cudaErrorInvalidClusterSize);
  allow_16(nothing);
  CHECK(launch_cluster(nothing, 16, 1, 16, 0) == cudaSuccess);
  CHECK(launch_cluster(nothing, 34, 1, 17, 0) == cudaErrorInvalidClusterSize);
  REQUIRE(cudaFuncSetAttribute(nothing, cudaFuncAttributeNonPortableClusterSizeAllowed, 0) == cudaSuccess);
  CHECK(launch_cluster(nothing, 16, 1, 16, 0) == cudaErrorInvalidClusterSize);
  weft_emulator::properties().major = 8;
  CHECK(launch_cluster(nothing, 8, 1, 2, 0) == cudaErrorNotSupported);
  CHECK(launch_cluster(nothing, 8, 1, 1, 0) == cudaSuccess);
  weft_emulator::properties().major = 9;
}

TEST_CASE("clusters are of any size where all blocks run together, for which each needs a multiprocessor") {
  const int before = weft_emulator::properties().multiProcessorCount;
  weft_emulator::properties().multiProcessorCount = 60;
  Array<unsigned> x(count_up<unsigned>(60 * 40)), y(60 * 40);
  const auto launch_together = [&](unsigned blocks, unsigned cluster) {
    cudaLaunchAttribute attributes[2]{};
    attributes[0].id = cudaLaunchAttributeCooperative;
    attributes[0].val.cooperative = 1;
    attributes[1].id = cudaLaunchAttributeClusterDimension;
    attributes[1].val.clusterDim = {cluster, 1, 1};
    const cudaLaunchConfig_t config{blocks, 40, 0, nullptr, attributes, 2};
    return cudaLaunchKernelEx(&config, sums_of_neighbours, x.data(), y.data(), 0);
  };
  CHECK(launch_together(60, 30) == cudaSuccess);
  CHECK(y.host() == x.host());
  CHECK(launch_together(60, 31) == cudaErrorInvalidClusterSize);
  CHECK(launch_together(62, 31) == cudaErrorCooperativeLaunchTooLarge);
  weft_emulator::properties().multiProcessorCount = before;
}

// Wrong kernels.
__global__ void one_block_less(int) {
  cluster_sync();
  if (cluster_rank() != 1) cluster_sync();
}
__global__ void half_at_cluster(int) {
  if (threadIdx.x < 32) {
    cluster_sync();
  } else {
    __syncthreads();
  }
}
__global__ void without_last_barrier(int* x) {
  __shared__ int value;
  value = 1;
  cluster_sync();
  if (cluster_rank() == 0) *x = *in_cluster(&value, 1);
}
__global__ void no_such_block(int* x) {
  __shared__ int value;
  cluster_sync();
  *x = *in_cluster(&value, cluster_size());
  cluster_sync();
}
__device__ const int* in_function() {
  __shared__ int value;
  return in_cluster(&value, 1 - cluster_rank());
}
__global__ void not_its_own(int* x) {
  cluster_sync();
  *x = *in_function();
  cluster_sync();
}

TEST_CASE("wrong clusters end the program, and it says why") {
  const auto check_words = [](void (*action)(), const char* expected) {
    const std::string words = last_words(action);
    CHECK_MESSAGE(words.find(expected) != words.npos, words);
  };
  check_words([] { launch_cluster(one_block_less, 2, 32, 2, 0); },
              "block (0, 0, 0) waits at barrier 1 of its cluster, and block (1, 0, 0) has returned");
  check_words([] { launch_cluster(half_at_cluster, 2, 64, 2, 0); }, "32 at a cluster's barrier");
  check_words([] { launch_cluster(no_such_block, 2, 1, 2, static_cast<int*>(nullptr)); },
              "block 2 of its cluster: there is no such block");
  check_words([] { launch_cluster(not_its_own, 2, 1, 2, static_cast<int*>(nullptr)); },
              "isn't into a __shared__ array of the kernel itself");
  static uint64_t seed;
  for (seed = 1; seed <= 8; ++seed)  // whichever of the two comes first
    check_words(
        [] {
          Array<int> x(1);
          weft_emulator::set_seed(seed);
          launch_cluster(without_last_barrier, 2, 1, 2, x.data());
        },
        "shared memory of block (1, 0, 0)");
}

}  // namespace
