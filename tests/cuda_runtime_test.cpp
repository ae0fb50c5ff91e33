// Memory, uploads and captures of the GPU's runtime where memory is short or work fails.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <string>
#include <vector>

#include "weft/engine/allocator.h"
#include "weft/engine/error.h"
#include "weft/engine/tensor.h"
#include "weft/kernels/cuda.h"
#if WEFT_EMULATED
#include "weft/kernels/cuda/together.h"
#include "weft_emulator.h"
#endif

using namespace weft;
namespace cuda = weft::kernels::cuda;

namespace {

constexpr int64_t kMegabyte = int64_t{1} << 20;

Tensor bytes_of_gpu(int64_t n) { return Tensor::empty({n}, DType::u8, Device::cuda); }

std::vector<uint8_t> pattern(int64_t n, int seed) {
  std::vector<uint8_t> values(static_cast<size_t>(n));
  for (int64_t i = 0; i < n; ++i) values[size_t(i)] = uint8_t((i * 31 + seed) % 251);
  return values;
}

}  // namespace

TEST_CASE("uploads of all sizes arrive, one after the other and each step") {
  for (const int64_t n : {int64_t{1}, int64_t{65536}, int64_t{65537}, 4 * kMegabyte, 9 * kMegabyte + 3}) {
    CAPTURE(n);
    const Tensor once = bytes_of_gpu(n), each = bytes_of_gpu(n);
    for (int seed = 0; seed < 3; ++seed) {
      const std::vector<uint8_t> values = pattern(n, seed);
      cuda::upload(once.raw(), values.data(), n);
      cuda::upload_each_step(each.raw(), n, [&](void* to) { std::memcpy(to, values.data(), values.size()); });
      CHECK(once.to_vector<uint8_t>() == values);
      CHECK(each.to_vector<uint8_t>() == values);
    }
  }
}

TEST_CASE("work beside begins after what came before, and is waited for where that is asked") {
#if WEFT_EMULATED
  const weft_emulator::Deferred deferred;
#endif
  const int64_t n = 1 << 20;
  const Tensor x = Tensor::full({n}, 1.0, DType::f32, Device::cuda),
               y = Tensor::full({n}, 2.0, DType::f32, Device::cuda),
               z = Tensor::full({n}, 3.0, DType::f32, Device::cuda);
  const auto step = [&](float value) {
    x.fill(value);
    const int64_t number = cuda::run_beside([&] { cuda::copy(y.raw(), x.raw(), x.bytes()); });
    cuda::copy(z.raw(), x.raw(), x.bytes());
    cuda::await_beside(number);
    x.fill(-1);  // y has what was there before
    cuda::copy(z.raw(), y.raw(), y.bytes());
  };
  step(5);
  CHECK(y.to_vector<float>() == std::vector<float>(size_t(n), 5));
  CHECK(z.to_vector<float>() == std::vector<float>(size_t(n), 5));
  const auto graph = cuda::capture([&] { step(7); });
  graph->launch();
  CHECK(z.to_vector<float>() == std::vector<float>(size_t(n), 7));
  {  // as the first convolution of its shape does, which measures
    x.fill(11);
    const int64_t number = cuda::run_beside([&] {
      cuda::synchronize();
      cuda::copy(y.raw(), x.raw(), x.bytes());
    });
    cuda::await_beside(number);
    cuda::copy(z.raw(), y.raw(), y.bytes());
    CHECK(z.to_vector<float>() == std::vector<float>(size_t(n), 11));
  }
  CHECK_THROWS_AS(cuda::run_beside([] { cuda::run_beside([] {}); }), cuda::Error);
  const auto fails = [&] {
    x.fill(13);
    cuda::run_beside([&] {
      cuda::copy(y.raw(), x.raw(), x.bytes());
      throw std::runtime_error("of the work");
    });
  };
  CHECK_THROWS_AS(fails(), std::runtime_error);
  y.fill(15);  // what had begun is over by then
  CHECK(y.to_vector<float>() == std::vector<float>(size_t(n), 15));
  step(9);
  CHECK(y.to_vector<float>() == std::vector<float>(size_t(n), 9));
}

TEST_CASE("rows may lie further apart than CUDA's copies of rows can") {
  const int64_t step = int64_t{1} << 40;
  const Tensor x = Tensor::full({4}, 1.0, DType::f32, Device::cuda),
               y = Tensor::full({4}, 2.0, DType::f32, Device::cuda);
  cuda::copy_rows(x.raw(), step, y.raw(), step, 8, 1);
  CHECK(y.to_vector<float>() == std::vector<float>{1, 1, 2, 2});
}

TEST_CASE("a step that fails while it is captured leaves the GPU usable") {
  const Tensor x = Tensor::full({5}, 1.0, DType::f32, Device::cuda);
  CHECK_THROWS_AS(cuda::capture([&] {
                    x.fill(2);
                    throw std::runtime_error("of the step");
                  }),
                  std::runtime_error);
  CHECK_FALSE(cuda::capturing());
  CHECK_THROWS_AS(cuda::capture([&] { x.item(); }), std::exception);  // waits
  CHECK(x.to_vector<float>() == std::vector<float>(5, 1));
  const auto graph = cuda::capture([&] { x.fill(3); });
  graph->launch();
  CHECK(x.to_vector<float>() == std::vector<float>(5, 3));
}

#if WEFT_EMULATED

namespace {

__device__ cuda::Turns turns;
__device__ cuda::Told told[36];

// Adds to each element the sum of the first ones of the slice's blocks.
__global__ void add_firsts(float* x) {
  cuda::wait_for_earlier();
  __shared__ unsigned turn;
  if (threadIdx.x == 0) turn = turns.next();
  __syncthreads();
  const unsigned slice = blockIdx.x * gridDim.y, first = (slice + blockIdx.y) * blockDim.x;
  if (threadIdx.x == 0) told[slice + blockIdx.y].tell(turn, x[first], 0);
  cuda::let_others_tell();
  float sum = 0;
  for (unsigned block = slice; block < slice + gridDim.y; ++block)
    sum += told[block].hear(turn, told[block].look()).value(0);
  x[first + threadIdx.x] += sum;
  if (threadIdx.x == 0) turns.done(turn);
}

/// Leaves so many bytes of the device's memory free.
struct Short {
  explicit Short(int64_t free) {
    cuda::synchronize();
    empty_cache(Device::cuda);
    weft_emulator::set_memory_limit(weft_emulator::allocated() + size_t(free));
  }
  ~Short() { weft_emulator::set_memory_limit(size_t{1} << 30); }
};

}  // namespace

TEST_CASE("blocks tell each other, and those of a captured step too") {
  constexpr unsigned threads = 40;
  weft_emulator::properties().multiProcessorCount = 36;
  for (const unsigned size : {1u, 4u, 18u}) {
    CAPTURE(size);
    const Tensor x = Tensor::empty({2 * size * threads}, DType::f32, Device::cuda);
    const auto add = [&] { cuda::launch_together(add_firsts, dim3(2, size), threads, x.data<float>()); };
    const auto expected = [&](float value) {
      return std::vector<float>(2 * size * threads, value * float(size + 1));
    };
    x.fill(2);
    add();
    CHECK(x.to_vector<float>() == expected(2));
    const auto graph = cuda::capture([&] {
      x.fill(3);
      add();
    });
    graph->launch();
    CHECK(x.to_vector<float>() == expected(3));
  }
  CHECK_THROWS_AS(cuda::launch_together(add_firsts, dim3(2, 19), threads, nullptr), cuda::Error);
  weft_emulator::properties().multiProcessorCount = 4;
}

TEST_CASE("memory that a captured step has used and returned stays the graph's") {
  const MemoryPool pool(Device::cuda);
  const MemoryPool::Use use(pool);
  const Short memory(3 * kMegabyte);
  // There is room for one of the two.
  CHECK_THROWS_AS(cuda::capture([] {
                    bytes_of_gpu(2 * kMegabyte).fill(1);
                    bytes_of_gpu(2 * kMegabyte + kMegabyte / 2).fill(2);
                  }),
                  OutOfMemoryError);
  auto graph = cuda::capture([] { bytes_of_gpu(2 * kMegabyte).fill(1); });
  CHECK_THROWS_AS(bytes_of_gpu(2 * kMegabyte + kMegabyte / 2), OutOfMemoryError);
  graph->launch();
  cuda::synchronize();
  graph.reset();
  pool.forget_capture();
  CHECK_NOTHROW(bytes_of_gpu(2 * kMegabyte + kMegabyte / 2));
}

TEST_CASE("a pool takes memory that is kept for others") {
  const Short memory(3 * kMegabyte);
  bytes_of_gpu(2 * kMegabyte);
  CHECK(memory_stats(Device::cuda).cached > 0);
  const MemoryPool pool(Device::cuda);
  const MemoryPool::Use use(pool);
  CHECK_NOTHROW(bytes_of_gpu(2 * kMegabyte + kMegabyte / 2));
}

TEST_CASE("scratch memory takes what is kept for tensors") {
  const Short memory(250 * kMegabyte);
  bytes_of_gpu(200 * kMegabyte);
  CHECK_NOTHROW(cuda::scratch(200 * kMegabyte));
  CHECK(memory_stats(Device::cuda).cached == 0);
  const Tensor kept = bytes_of_gpu(40 * kMegabyte);
  CHECK_THROWS_AS(cuda::scratch(210 * kMegabyte), OutOfMemoryError);
  kept.fill(1);  // and all goes on
  cuda::synchronize();
}

TEST_CASE("a pool out of which nothing was captured gives back what is of the wrong size") {
  const MemoryPool pool(Device::cuda);
  const MemoryPool::Use use(pool);
  const Short memory(3 * kMegabyte);
  bytes_of_gpu(2 * kMegabyte);
  CHECK_NOTHROW(bytes_of_gpu(2 * kMegabyte + kMegabyte / 2));
}

TEST_CASE("the uploads of a captured step are one copy, wherever they go") {
  // Odd sizes and places; an empty one is never asked for.
  struct Part {
    int64_t at, bytes;
  };
  const std::vector<Part> parts = {{0, 1},
                                   {256, 4096},
                                   {8192, 4097},
                                   {13001, 12},
                                   {13017, 70001},
                                   {90000, 0},
                                   {90000, 16},
                                   {90032, 9 * kMegabyte + 5},
                                   {10 * kMegabyte, 300}};
  const int64_t size = 11 * kMegabyte;
  const Tensor x = bytes_of_gpu(size), copied = bytes_of_gpu(size);
  x.fill(77);
  std::vector<uint8_t> expected(size_t(size), 77);
  int step = 0;
  std::vector<size_t> order;
  const auto graph = cuda::capture([&] {
    for (size_t i = 0; i < parts.size(); ++i)
      cuda::upload_each_step(static_cast<char*>(x.raw()) + parts[i].at, parts[i].bytes, [&, i](void* to) {
        order.push_back(i);
        const auto values = pattern(parts[i].bytes, step + int(i));
        std::memcpy(to, values.data(), values.size());
      });
    cuda::copy(copied.raw(), x.raw(), size);
  });
  cuda::synchronize();
  for (const bool deferred : {false, true}) {
    weft_emulator::set_deferred(deferred);
    weft_emulator::reset_stats();
    for (int i = 0; i < 7; ++i) {
      ++step;
      graph->launch();
    }
    CHECK(copied.to_vector<uint8_t>().size() == size_t(size));
    weft_emulator::set_deferred(false);
    CHECK(weft_emulator::stats().copies_to_device == 7);
    CHECK(weft_emulator::stats().kernels == 7);
    CHECK(weft_emulator::stats().mallocs == 0);
    for (size_t i = 0; i < parts.size(); ++i) {
      const auto values = pattern(parts[i].bytes, step + int(i));
      std::copy(values.begin(), values.end(), expected.begin() + parts[i].at);
    }
    CHECK(copied.to_vector<uint8_t>() == expected);
    CHECK(order.size() == 7 * 8 * (deferred ? 2 : 1));
    CHECK(std::is_sorted(order.begin(), order.begin() + 8));
  }
}

TEST_CASE("the uploads of a step do not wait for the step before") {
  constexpr int kUploads = 12;
  const Tensor x = bytes_of_gpu(kUploads * 256), other = bytes_of_gpu(16);
  int step = 0;
  const auto graph = cuda::capture([&] {
    for (int i = 0; i < kUploads; ++i)
      cuda::upload_each_step(static_cast<char*>(x.raw()) + i * 256, 256,
                             [&step](void* to) { std::memset(to, step, 256); });
    other.fill(1);
  });
  cuda::synchronize();
  weft_emulator::reset_stats();
  for (step = 1; step <= 3; ++step) graph->launch();
  CHECK(weft_emulator::stats().host_syncs == 0);
  CHECK(weft_emulator::stats().copies_to_device == 3);
  CHECK(x.to_vector<uint8_t>() == std::vector<uint8_t>(kUploads * 256, 3));
}

TEST_CASE("of several errors the first one is heard") {
  const Tensor x = bytes_of_gpu(5);
  CHECK_THROWS_WITH_AS(cuda::capture([&] {
                         cuda::run_beside([&] {
                           x.fill(1);
                           cudaStreamSynchronize(cuda::stream());  // which ends the capture
                           throw std::runtime_error("of the work");
                         });
                       }),
                       "of the work", std::runtime_error);
  x.fill(2);
  CHECK(x.to_vector<uint8_t>() == std::vector<uint8_t>(5, 2));
}

TEST_CASE("a launch that fails keeps no upload for the next one") {
  const Tensor x = bytes_of_gpu(1);
  uint8_t value = 0;
  const auto graph = cuda::capture([&] {
    cuda::upload_each_step(x.raw(), 1, [&](void* to) { std::memcpy(to, &value, 1); });
    bytes_of_gpu(16).fill(1);
  });
  for (value = 1; value <= 6; ++value) {
    if (value == 3) {
      weft_emulator::fail_launch_after(0, cudaErrorLaunchOutOfResources);
      CHECK_THROWS_AS(graph->launch(), cuda::Error);
      weft_emulator::fail_launch_after(0, cudaSuccess);
    } else {
      graph->launch();
      CHECK(x.to_vector<uint8_t>()[0] == value);
    }
  }
}

TEST_CASE("kernels are launched early where they were compiled to wait") {
  CHECK(cuda::waits_for_earlier());
  weft_emulator::properties().major = 8;
  CHECK(!cuda::waits_for_earlier());
  weft_emulator::properties().major = 9;
}

#endif
