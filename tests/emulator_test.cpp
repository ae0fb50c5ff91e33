// The emulator that runs CUDA kernels on the CPU (tests/emulator): what happens inside a kernel.

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

__global__ void add(const float* __restrict__ a, const float* __restrict__ b, float* __restrict__ sum,
                    int n) {
  for (int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x); i < n;
       i += static_cast<int>(gridDim.x * blockDim.x))
    sum[i] = a[i] + b[i];
}

TEST_CASE("a grid-stride loop reaches every element") {
  Array<float> a(count_up<float>(1000)), b(count_up<float>(1000, 5)), sum(1000);
  CHECK(std::isnan(sum.host()[0]));
  REQUIRE(launch(add, 3, 64, a.data(), b.data(), sum.data(), 1000) == cudaSuccess);
  const std::vector<float> values = sum.host();
  for (int i = 0; i < 1000; ++i) CHECK(values[i] == 2 * i + 5);
}

__global__ void where(uint3* indices, unsigned* order, unsigned* next) {
  const unsigned block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
  const unsigned thread = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
  if (thread == 0) order[block] = atomicAdd(next, 1u);
  indices[block * blockDim.x * blockDim.y * blockDim.z + thread] = threadIdx;
}

std::vector<unsigned> order_of_blocks(uint64_t seed) {
  weft_emulator::set_seed(seed);
  Array<uint3> indices(24 * 30);
  Array<unsigned> order(24), next(std::vector<unsigned>{0});
  REQUIRE(launch(where, dim3(2, 3, 4), dim3(5, 3, 2), indices.data(), order.data(), next.data()) ==
          cudaSuccess);
  const std::vector<uint3> seen = indices.host();
  for (unsigned i = 0; i < seen.size(); ++i) {
    const unsigned thread = i % 30;
    CHECK(seen[i].x == thread % 5);
    CHECK(seen[i].y == thread / 5 % 3);
    CHECK(seen[i].z == thread / 15);
  }
  return order.host();
}

TEST_CASE("grids and blocks have three dimensions, and blocks come in an order made by the seed") {
  const std::vector<unsigned> one = order_of_blocks(1);
  std::vector<unsigned> sorted = one;
  std::sort(sorted.begin(), sorted.end());
  CHECK(sorted == count_up<unsigned>(24));
  CHECK(one != sorted);
  CHECK(order_of_blocks(1) == one);
  CHECK(order_of_blocks(2) != one);
}

template <class T, int threads>
__global__ void __launch_bounds__(threads) block_sums(const T* __restrict__ x, T* __restrict__ sums, int n) {
  __shared__ T partial[threads / 32];
  const int i = static_cast<int>(blockIdx.x) * threads + static_cast<int>(threadIdx.x);
  T sum = i < n ? x[i] : T{0};
  for (int offset = 16; offset > 0; offset /= 2) sum += __shfl_down_sync(0xffffffff, sum, offset);
  if (threadIdx.x % 32 == 0) partial[threadIdx.x / 32] = sum;
  __syncthreads();
  if (threadIdx.x < 32) {
    sum = threadIdx.x < threads / 32 ? partial[threadIdx.x] : T{0};
    for (int offset = 16; offset > 0; offset /= 2) sum += __shfl_xor_sync(0xffffffff, sum, offset);
    if (threadIdx.x == 0) sums[blockIdx.x] = sum;
  }
}

TEST_CASE_TEMPLATE("a block adds up with shuffles and shared memory", T, int, unsigned, long long,
                   unsigned long long, float, double) {
  Array<T> x(count_up<T>(1000)), sums(4);
  REQUIRE(launch(block_sums<T, 256>, 4, 256, x.data(), sums.data(), 1000) == cudaSuccess);
  CHECK(sums.host() == std::vector<T>{32640, 98176, 163712, 204972});
}

// Mean of each block's neighbours, twice over; wrong if a barrier lets a thread through too early.
__global__ void smooth(const float* x, float* y, int steps) {
  __shared__ float tile[2][128];
  const unsigned i = threadIdx.x, left = (i + 127) % 128, right = (i + 1) % 128;
  tile[0][i] = x[blockIdx.x * 128 + i];
  __syncthreads();
  for (int step = 0; step < steps; ++step) {
    tile[(step + 1) % 2][i] = (tile[step % 2][left] + tile[step % 2][right]) / 2;
    __syncthreads();
  }
  y[blockIdx.x * 128 + i] = tile[steps % 2][i];
}

TEST_CASE("barriers hold all threads of a block, again and again") {
  std::vector<float> x = count_up<float>(3 * 128);
  Array<float> input(x), output(x.size());
  REQUIRE(launch(smooth, 3, 128, input.data(), output.data(), 21) == cudaSuccess);
  for (int step = 0; step < 21; ++step) {
    const std::vector<float> old = x;
    for (size_t i = 0; i < x.size(); ++i) {
      const size_t block = i / 128 * 128;
      x[i] = (old[block + (i + 127) % 128] + old[block + (i + 1) % 128]) / 2;
    }
  }
  CHECK(output.host() == x);
}

struct Shuffled {
  int down, up, to_first, exchanged, rotated;
};

__global__ void shuffle_in_eights(Shuffled* results) {
  const int lane = static_cast<int>(threadIdx.x);
  results[lane] = {__shfl_down_sync(0xffffffff, lane, 3, 8), __shfl_up_sync(0xffffffff, lane, 3, 8),
                   __shfl_sync(0xffffffff, lane, 0, 8), __shfl_xor_sync(0xffffffff, lane, 1, 8),
                   __shfl_sync(0xffffffff, lane, lane + 1, 8)};
}

TEST_CASE("shuffles of a width below 32 stay in their segment") {
  Array<Shuffled> results(32);
  REQUIRE(launch(shuffle_in_eights, 1, 32, results.data()) == cudaSuccess);
  const std::vector<Shuffled> r = results.host();
  for (int lane = 0; lane < 32; ++lane) {
    CHECK(r[lane].down == (lane % 8 + 3 < 8 ? lane + 3 : lane));
    CHECK(r[lane].up == (lane % 8 >= 3 ? lane - 3 : lane));
    CHECK(r[lane].to_first == lane / 8 * 8);
    CHECK(r[lane].exchanged == (lane ^ 1));
    CHECK(r[lane].rotated == lane / 8 * 8 + (lane + 1) % 8);
  }
}

__global__ void vote(unsigned* votes) {
  const unsigned i = threadIdx.x;
  unsigned* const v = votes + i * 8;
  v[0] = __ballot_sync(0xffffffff, i % 3 == 0);
  v[1] = static_cast<unsigned>(__any_sync(0xffffffff, i == 40));
  v[2] = static_cast<unsigned>(__all_sync(0xffffffff, i < 32));
  v[3] = static_cast<unsigned>(__syncthreads_count(i % 2));
  v[4] = static_cast<unsigned>(__syncthreads_or(i == 47));
  v[5] = static_cast<unsigned>(__syncthreads_and(i != 47));
  v[6] = __reduce_add_sync(0xffffffff, i);
  v[7] = static_cast<unsigned>(__reduce_min_sync(0xffffffff, 5 - static_cast<int>(i)));
}

TEST_CASE("votes and reductions, also of a warp that isn't full") {
  Array<unsigned> votes(48 * 8);
  REQUIRE(launch(vote, 1, 48, votes.data()) == cudaSuccess);
  const std::vector<unsigned> v = votes.host();
  unsigned thirds = 0, second = 0;
  for (unsigned i = 0; i < 32; ++i) thirds |= (i % 3 == 0 ? 1u : 0) << i;
  for (unsigned i = 0; i < 16; ++i) second |= ((i + 32) % 3 == 0 ? 1u : 0) << i;
  for (unsigned i = 0; i < 48; ++i) {
    const bool first = i < 32;
    CHECK(v[i * 8 + 0] == (first ? thirds : second));
    CHECK(v[i * 8 + 1] == (first ? 0 : 1));
    CHECK(v[i * 8 + 2] == (first ? 1 : 0));
    CHECK(v[i * 8 + 3] == 24);
    CHECK(v[i * 8 + 4] == 1);
    CHECK(v[i * 8 + 5] == 0);
    CHECK(v[i * 8 + 6] == (first ? 496 : 632));
    CHECK(static_cast<int>(v[i * 8 + 7]) == (first ? -26 : -42));
  }
}

__global__ void from_nobody(float* x) {
  const float own = static_cast<float>(threadIdx.x);
  x[threadIdx.x] = __shfl_down_sync(0xffffffff, own, 1);
}

TEST_CASE("a shuffle from a lane that isn't there gives NaN") {
  Array<float> x(20);
  REQUIRE(launch(from_nobody, 1, 20, x.data()) == cudaSuccess);
  const std::vector<float> values = x.host();
  CHECK(values[18] == 19);
  CHECK(std::isnan(values[19]));
}

// Odd and even lanes go different ways, with a mask each.
__global__ void two_halves(int* x) {
  const int lane = static_cast<int>(threadIdx.x);
  if (lane % 2) {
    int sum = lane;
    for (int offset = 16; offset > 1; offset /= 2) sum += __shfl_xor_sync(0xaaaaaaaa, sum, offset);
    x[lane] = sum;
  } else {
    x[lane] = static_cast<int>(__ballot_sync(0x55555555, lane > 15));
  }
}

TEST_CASE("parts of a warp work by themselves") {
  Array<int> x(32);
  REQUIRE(launch(two_halves, 1, 32, x.data()) == cudaSuccess);
  const std::vector<int> values = x.host();
  for (int lane = 0; lane < 32; ++lane) CHECK(values[lane] == (lane % 2 ? 256 : 0x55550000));
}

__device__ unsigned blocks_done = 0;

// The last block to finish adds up what the blocks have left.
__global__ void sum_all(const float* x, float* partial, float* sum, int n) {
  __shared__ bool last;
  if (threadIdx.x == 0) {
    float own = 0;
    for (int i = static_cast<int>(blockIdx.x); i < n; i += static_cast<int>(gridDim.x)) own += x[i];
    partial[blockIdx.x] = own;
    __threadfence();
    last = atomicInc(&blocks_done, gridDim.x - 1) == gridDim.x - 1;
  }
  __syncthreads();
  if (!last) return;
  float own = threadIdx.x < gridDim.x ? partial[threadIdx.x] : 0;
  for (int offset = 16; offset > 0; offset /= 2) own += __shfl_xor_sync(0xffffffff, own, offset);
  if (threadIdx.x == 0) *sum = own;
}

TEST_CASE("the last block sees what the others have done, and resets their counter") {
  Array<float> x(count_up<float>(500)), partial(20), sum(1);
  for (int repeat = 0; repeat < 3; ++repeat) {
    REQUIRE(cudaMemset(sum.data(), 0, 4) == cudaSuccess);
    REQUIRE(launch(sum_all, 20, 32, x.data(), partial.data(), sum.data(), 500) == cudaSuccess);
    CHECK(sum.host()[0] == 124750);
    CHECK(blocks_done == 0);
  }
}

__global__ void shift_within(const int* x, int* y, int n) {
  __shared__ int tile[96];
  const int i = static_cast<int>(threadIdx.x);
  if (i >= n) return;
  tile[i] = x[i];
  __syncthreads();
  y[i] = tile[(i + 1) % n];
}

TEST_CASE("a barrier does not wait for threads that have returned") {
  for (const int n : {1, 31, 33, 70, 96}) {
    Array<int> x(count_up<int>(96)), y(96);
    REQUIRE(cudaMemset(y.data(), 0, y.bytes()) == cudaSuccess);
    REQUIRE(launch(shift_within, 1, 96, x.data(), y.data(), n) == cudaSuccess);
    const std::vector<int> values = y.host();
    for (int i = 0; i < 96; ++i) CHECK(values[i] == (i < n ? (i + 1) % n : 0));
  }
}

// Threads return one after the other, while the rest of their warp waits for them.
__global__ void leave_one_by_one(int* rounds) {
  int round = 0;
  while (round < static_cast<int>(threadIdx.x)) {
    __syncwarp();
    ++round;
  }
  rounds[threadIdx.x] = round;
}

TEST_CASE("lanes that return release those that wait for them") {
  Array<int> rounds(32);
  REQUIRE(launch(leave_one_by_one, 1, 32, rounds.data()) == cudaSuccess);
  CHECK(rounds.host() == count_up<int>(32));
}

__global__ void all_atomics(int* i, unsigned* u, unsigned long long* l, float* f, double* d) {
  atomicAdd(&i[0], -2);
  atomicMax(&i[1], static_cast<int>(threadIdx.x));
  atomicMin(&i[2], static_cast<int>(threadIdx.x));
  atomicAdd(&u[0], 3u);
  atomicOr(&u[1], 1u << threadIdx.x);
  atomicAnd(&u[2], ~(1u << threadIdx.x));
  atomicXor(&u[3], 1u << threadIdx.x);
  atomicInc(&u[4], 4);
  atomicAdd(l, 1ull << 40);
  atomicAdd(f, 0.5f);
  atomicAdd(d, 0.25);
  unsigned seen = u[5];  // a counter made of compare-and-swap
  while (true) {
    const unsigned old = atomicCAS(&u[5], seen, seen + 1);
    if (old == seen) break;
    seen = old;
  }
  if (threadIdx.x == 7) u[6] = atomicExch(&u[7], 9u);
}

TEST_CASE("atomics") {
  Array<int> i(std::vector{0, -1, 1000});
  Array<unsigned> u(std::vector<unsigned>{0, 0, 0xffffffff, 0xf0000000, 0, 10, 0, 5});
  Array<unsigned long long> l(std::vector{1ull});
  Array<float> f(std::vector{1.0f});
  Array<double> d(std::vector{1.0});
  REQUIRE(launch(all_atomics, 1, 32, i.data(), u.data(), l.data(), f.data(), d.data()) == cudaSuccess);
  CHECK(i.host() == std::vector<int>{-64, 31, 0});
  CHECK(u.host() == std::vector<unsigned>{96, 0xffffffff, 0, 0x0fffffff, 32 % 5, 42, 5, 9});
  CHECK(l.host()[0] == (32ull << 40) + 1);
  CHECK(f.host()[0] == 17);
  CHECK(d.host()[0] == 9);
}

TEST_CASE("intrinsics") {
  CHECK(__popc(0xf0f0u) == 8);
  CHECK(__ffs(0) == 0);
  CHECK(__ffs(8) == 4);
  CHECK(__clz(1) == 31);
  CHECK(__clz(0) == 32);
  CHECK(__brev(0x80000001u) == 0x80000001u);
  CHECK(__brev(0x12345678u) == 0x1e6a2c48u);
  CHECK(__brevll(1) == 1ull << 63);
  CHECK(__umulhi(0xffffffffu, 0xffffffffu) == 0xfffffffeu);
  CHECK(__mulhi(-1, 1) == -1);
  CHECK(__umul64hi(~0ull, ~0ull) == ~0ull - 1);
  CHECK(__umul64hi(0x123456789abcdef0ull, 0xfedcba9876543210ull) == 0x121fa00ad77d7422ull);
  CHECK(__mul24(-3, 5) == -15);
  CHECK(__byte_perm(0x33221100, 0x77665544, 0x7410) == 0x77441100);
  CHECK(__funnelshift_l(0x80000000, 1, 1) == 3);
  CHECK(__funnelshift_r(2, 1, 1) == 0x80000001);
  CHECK(__float_as_uint(1.0f) == 0x3f800000u);
  CHECK(__uint_as_float(0x40000000u) == 2.0f);
  CHECK(__longlong_as_double(__double_as_longlong(-3.5)) == -3.5);
  CHECK(__saturatef(1.5f) == 1);
  CHECK(__saturatef(-1) == 0);
  CHECK(__saturatef(0.25f) == 0.25f);
  CHECK(__saturatef(NAN) == 0);
  CHECK(rsqrtf(4) == 0.5f);
  CHECK(rsqrt(16.0) == 0.25);
  CHECK(__expf(1) == doctest::Approx(std::exp(1.0)));
  CHECK(__fmaf_rn(1 + 0x1p-12f, 1 + 0x1p-12f, -1 - 0x1p-11f) == 0x1p-24f);
  CHECK(min(3, -2) == -2);
  CHECK(max(3u, 2u) == 3u);
  CHECK(max(NAN, 2.0f) == 2);
  const float4 four = make_float4(1, 2, 3, 4);
  CHECK(__ldg(&four).w == 4);
  double stored = 0;
  __stcs(&stored, 2);
  CHECK(stored == 2);
}

static_assert(alignof(float2) == 8 && sizeof(float2) == 8 && alignof(float4) == 16 && sizeof(float4) == 16);
static_assert(alignof(int4) == 16 && alignof(uint2) == 8 && alignof(double2) == 16 &&
              alignof(ulonglong2) == 16);
static_assert(alignof(uchar4) == 4 && sizeof(uint3) == 12 && alignof(float3) == 4);

TEST_CASE("impossible launches give CUDA's errors") {
  Array<int> x(32);
  cudaGetLastError();
  CHECK(launch(two_halves, 1, 1025, x.data()) == cudaErrorInvalidConfiguration);
  CHECK(cudaPeekAtLastError() == cudaErrorInvalidConfiguration);
  CHECK(launch(two_halves, 1, dim3(1, 1, 65), x.data()) == cudaErrorInvalidConfiguration);
  CHECK(launch(two_halves, 0, 32, x.data()) == cudaErrorInvalidConfiguration);
  CHECK(launch(two_halves, dim3(1, 65536), 32, x.data()) == cudaErrorInvalidConfiguration);
  CHECK(launch(two_halves, 1, dim3(32, 0), x.data()) == cudaErrorInvalidConfiguration);
  const cudaLaunchConfig_t config{1, 32, 50000, nullptr, nullptr, 0};
  CHECK(cudaLaunchKernelEx(&config, two_halves, x.data()) == cudaErrorInvalidValue);
  CHECK(cudaGetLastError() == cudaErrorInvalidValue);
  const auto allow = [](int bytes) {
    return cudaFuncSetAttribute(two_halves, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
  };
  CHECK(allow(1 << 20) == cudaErrorInvalidValue);
  CHECK(allow(50000) == cudaSuccess);
  CHECK(cudaLaunchKernelEx(&config, two_halves, x.data()) == cudaSuccess);
  CHECK(cudaGetLastError() == cudaErrorInvalidValue);
  CHECK(cudaGetLastError() == cudaSuccess);
  CHECK(std::string(cudaGetErrorName(cudaErrorInvalidConfiguration)) == "cudaErrorInvalidConfiguration");
  CHECK(std::string(cudaGetErrorString(cudaErrorMemoryAllocation)) == "out of memory");
}

// Wrong kernels.
__global__ void half_at_barrier(int*) {
  if (threadIdx.x < 32 || threadIdx.x == 40) {
    __syncthreads();
  } else {
    __syncwarp();
  }
}
__global__ void two_barriers(int*) {
  if (threadIdx.x < 32) {
    __syncthreads();
  } else {
    __syncthreads();
  }
}
__global__ void without_itself(int*) { __shfl_sync(0xff, 1, 0); }
__global__ void disagree(int*) { __shfl_sync(threadIdx.x == 3 ? 0xff : 0xffffffff, 1, 0); }

TEST_CASE("kernels that would hang end the program, and it says where") {
  std::string words = last_words([] { launch(half_at_barrier, 1, 64, static_cast<int*>(nullptr)); });
  CHECK_MESSAGE(
      words.find("deadlock in block (0, 0, 0): of 64 threads 33 wait at __syncthreads (") != words.npos,
      words);
  CHECK_MESSAGE(words.find("31 at a warp operation (") != words.npos, words);
  CHECK_MESSAGE(words.find("emulator_test.cpp:") != words.npos, words);
  words = last_words([] { launch(two_barriers, 1, 64, static_cast<int*>(nullptr)); });
  CHECK_MESSAGE(words.find("threads of block (0, 0, 0) wait at different barriers") != words.npos, words);
  words = last_words([] { launch(without_itself, 1, 32, static_cast<int*>(nullptr)); });
  CHECK_MESSAGE(words.find("lacks the lane that calls it") != words.npos, words);
  words = last_words([] { launch(disagree, 1, 32, static_cast<int*>(nullptr)); });
  CHECK_MESSAGE(words.find("different masks") != words.npos, words);
}

__global__ void keep_in_shared(float* seen) {
  __shared__ float tile[64];
  if (threadIdx.x % 2) tile[threadIdx.x] = 1;
  seen[blockIdx.x * 64 + threadIdx.x] = tile[threadIdx.x];
}

TEST_CASE("a block finds NaN in its shared arrays") {
  Array<float> seen(3 * 64);
  REQUIRE(launch(keep_in_shared, 3, 64, seen.data()) == cudaSuccess);
  const std::vector<float> values = seen.host();
  for (int i = 0; i < 3 * 64; ++i) CHECK((i % 2 ? values[i] == 1 : std::isnan(values[i])));
}

// One thread waits for another without a barrier, which works where threads move on by themselves.
__global__ void wait_for_the_last(int* x) {
  __shared__ volatile int flag;
  if (threadIdx.x == 0) flag = 0;
  __syncthreads();
  if (threadIdx.x == blockDim.x - 1) {
    flag = 5;
  } else {
    while (flag == 0) __nanosleep(100);
  }
  x[threadIdx.x] = flag;
}

TEST_CASE("__nanosleep lets other threads run") {
  Array<int> x(70);
  REQUIRE(launch(wait_for_the_last, 1, 70, x.data()) == cudaSuccess);
  CHECK(x.host() == std::vector<int>(70, 5));
}

}  // namespace
