// The emulator that runs CUDA kernels on the CPU (tests/emulator): the host's side.

#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "emulator/asan.h"
#include "emulator/testing.h"

using namespace weft_emulator::testing;

namespace {

[[maybe_unused]] const bool at_once =
    (weft_emulator::set_deferred(false), true);  // whatever the environment says

__global__ void add_to(float* x, float value, int n) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i < n) x[i] += value;
}

__global__ void multiply(float* x, float factor, int n) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i < n) x[i] *= factor;
}

__global__ void copy(const float* from, float* to) { to[threadIdx.x] = from[threadIdx.x]; }

struct Stream {
  explicit Stream(unsigned flags = cudaStreamNonBlocking) {
    REQUIRE(cudaStreamCreateWithFlags(&stream, flags) == cudaSuccess);
  }
  ~Stream() { cudaStreamDestroy(stream); }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  operator cudaStream_t() const { return stream; }
  cudaStream_t stream = nullptr;
};

struct Event {
  Event() { REQUIRE(cudaEventCreate(&event) == cudaSuccess); }
  ~Event() { cudaEventDestroy(event); }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  operator cudaEvent_t() const { return event; }
  cudaEvent_t event = nullptr;
};

/// Pinned host memory.
struct Pinned {
  explicit Pinned(size_t size) { REQUIRE(cudaMallocHost(&data, size * sizeof(float)) == cudaSuccess); }
  ~Pinned() { cudaFreeHost(data); }
  Pinned(const Pinned&) = delete;
  Pinned& operator=(const Pinned&) = delete;
  float& operator[](size_t i) { return data[i]; }
  float* data = nullptr;
};

TEST_CASE("the device describes itself") {
  int count = 0, value = 0;
  CHECK(cudaGetDeviceCount(&count) == cudaSuccess);
  CHECK(count == 1);
  cudaDeviceProp properties;
  CHECK(cudaGetDeviceProperties(&properties, 0) == cudaSuccess);
  CHECK(std::string(properties.name) == "emulated");
  CHECK(properties.warpSize == 32);
  CHECK(cudaDeviceGetAttribute(&value, cudaDevAttrMultiProcessorCount, 0) == cudaSuccess);
  CHECK(value == properties.multiProcessorCount);
  CHECK(cudaGetDeviceProperties(&properties, 1) == cudaErrorInvalidDevice);
  CHECK(cudaSetDevice(1) == cudaErrorInvalidDevice);
  CHECK(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&value, copy, 256, 0) == cudaSuccess);
  CHECK(value == 8);
}

TEST_CASE("without a device every call says so") {
  weft_emulator::set_device_count(0);
  int count = 1;
  float* x = nullptr;
  cudaStream_t stream = nullptr;
  CHECK(cudaGetDeviceCount(&count) == cudaErrorInsufficientDriver);
  CHECK(count == 0);
  CHECK(cudaMalloc(&x, 4) == cudaErrorInsufficientDriver);
  CHECK(cudaStreamCreateWithFlags(&stream, 0) == cudaErrorInsufficientDriver);
  CHECK(launch(copy, 1, 1, x, x) == cudaErrorInsufficientDriver);
  CHECK(cudaGetLastError() == cudaErrorInsufficientDriver);
  weft_emulator::set_device_count(0, cudaErrorNoDevice);
  CHECK(cudaGetDeviceCount(&count) == cudaErrorNoDevice);
  weft_emulator::set_device_count(1);
  CHECK(cudaGetDeviceCount(&count) == cudaSuccess);
}

TEST_CASE("memory is limited, counted, and full of NaN") {
  const size_t before = weft_emulator::allocated();
  weft_emulator::set_memory_limit(before + 1000);
  float *x = nullptr, *y = nullptr;
  REQUIRE(cudaMalloc(&x, 600) == cudaSuccess);
  CHECK(reinterpret_cast<uintptr_t>(x) % 256 == 0);
  CHECK(cudaMalloc(&y, 401) == cudaErrorMemoryAllocation);
  CHECK(y == nullptr);
  CHECK(cudaGetLastError() == cudaErrorMemoryAllocation);
  CHECK(cudaMalloc(&y, ~size_t{0}) == cudaErrorMemoryAllocation);
  size_t free = 0, total = 0;
  CHECK(cudaMemGetInfo(&free, &total) == cudaSuccess);
  CHECK(free == 400);
  CHECK(total == before + 1000);
  REQUIRE(cudaMalloc(&y, 400) == cudaSuccess);
  CHECK(weft_emulator::allocated() == before + 1000);
  CHECK(cudaFree(y) == cudaSuccess);
  CHECK(cudaFree(y) == cudaErrorInvalidValue);
  CHECK(cudaFree(x + 1) == cudaErrorInvalidValue);
  CHECK(cudaFree(nullptr) == cudaSuccess);
  std::vector<float> values(150);
  REQUIRE(cudaMemcpy(values.data(), x, 600, cudaMemcpyDeviceToHost) == cudaSuccess);
  for (const float value : values) CHECK(std::isnan(value));
  CHECK(cudaFree(x) == cudaSuccess);
  CHECK(weft_emulator::allocated() == before);
  CHECK(weft_emulator::peak_allocated() >= before + 1000);
  weft_emulator::set_memory_limit(size_t{1} << 30);
}

TEST_CASE("copies must go where they say") {
  Array<float> x(count_up<float>(8)), y(8);
  std::vector<float> host(8);
  const auto copied = [&](void* to, const void* from, size_t size, cudaMemcpyKind kind) {
    const cudaError_t now = cudaMemcpy(to, from, size, kind);
    CHECK(cudaMemcpyAsync(to, from, size, kind, nullptr) == now);
    return now;
  };
  CHECK(copied(y.data(), x.data(), 32, cudaMemcpyDeviceToDevice) == cudaSuccess);
  CHECK(copied(host.data(), y.data(), 32, cudaMemcpyDefault) == cudaSuccess);
  CHECK(host == count_up<float>(8));
  CHECK(copied(host.data(), x.data(), 32, cudaMemcpyHostToDevice) == cudaErrorInvalidValue);
  CHECK(copied(y.data(), x.data(), 32, cudaMemcpyHostToDevice) == cudaErrorInvalidValue);
  CHECK(copied(y.data(), host.data(), 32, cudaMemcpyDeviceToDevice) == cudaErrorInvalidValue);
  CHECK(copied(host.data(), host.data() + 4, 16, cudaMemcpyDeviceToHost) == cudaErrorInvalidValue);
  CHECK(copied(host.data(), x.data() + 1, 32, cudaMemcpyDeviceToHost) == cudaErrorInvalidValue);  // too long
  CHECK(copied(x.data() + 1, x.data(), 28, cudaMemcpyDeviceToDevice) == cudaErrorInvalidValue);   // overlap
  CHECK(copied(x.data(), x.data() + 1, 28, cudaMemcpyDeviceToDevice) == cudaErrorInvalidValue);
  CHECK(copied(y.data() + 4, y.data(), 16, cudaMemcpyDeviceToDevice) == cudaSuccess);
  CHECK(copied(host.data(), x.data(), 32, static_cast<cudaMemcpyKind>(7)) == cudaErrorInvalidMemcpyDirection);
  CHECK(cudaMemset(host.data(), 0, 32) == cudaErrorInvalidValue);
  CHECK(cudaMemset(x.data() + 1, 0, 32) == cudaErrorInvalidValue);
  CHECK(cudaMemsetAsync(x.data() + 1, 0, 4) == cudaSuccess);
  CHECK(x.host() == std::vector<float>{0, 0, 2, 3, 4, 5, 6, 7});
  CHECK(weft_emulator::is_device_memory(x.data(), 32));
  CHECK(!weft_emulator::is_device_memory(x.data(), 33));
  CHECK(!weft_emulator::is_device_memory(host.data()));
  cudaPointerAttributes attributes;
  CHECK(cudaPointerGetAttributes(&attributes, x.data()) == cudaSuccess);
  CHECK(attributes.type == cudaMemoryTypeDevice);
  CHECK(cudaPointerGetAttributes(&attributes, host.data()) == cudaSuccess);
  CHECK(attributes.type == cudaMemoryTypeUnregistered);
}

TEST_CASE("copies of two dimensions skip the rest of each row") {
  const std::vector<float> host = count_up<float>(12);
  Array<float> x(6);
  REQUIRE(cudaMemcpy2DAsync(x.data(), 8, host.data() + 1, 16, 8, 3, cudaMemcpyHostToDevice) == cudaSuccess);
  CHECK(x.host() == std::vector<float>{1, 2, 5, 6, 9, 10});
  CHECK(cudaMemcpy2D(x.data(), 4, host.data(), 16, 8, 3, cudaMemcpyHostToDevice) ==
        cudaErrorInvalidPitchValue);
  CHECK(cudaMemcpy2D(x.data(), 8, host.data(), 16, 8, 4, cudaMemcpyHostToDevice) == cudaErrorInvalidValue);
}

#ifndef WEFT_EMULATOR_ASAN  // which stops at the write itself
TEST_CASE("writing outside an allocation ends the program when it is freed") {
  std::string words = last_words([] {
    Array<float> x(10);
    launch(add_to, 1, 32, x.data(), 1.0f, 11);
  });
  CHECK_MESSAGE(words.find("0 bytes behind an allocation of 40 bytes were written to") != words.npos, words);
  words = last_words([] {
    Array<float> x(10);
    launch(add_to, 1, 1, x.data() - 2, 1.0f, 1);
    weft_emulator::check_guards();
  });
  CHECK_MESSAGE(words.find("8 bytes before an allocation of 40 bytes were written to") != words.npos, words);
}
#else
TEST_CASE("writing outside an allocation ends the program") {
  const std::string words = last_words([] {
    Array<float> x(10);
    launch(add_to, 1, 32, x.data(), 1.0f, 11);
  });
  CHECK_MESSAGE(words.find("use-after-poison") != words.npos, words);
}
#endif

TEST_CASE("the host's code can be kept from device memory") {
  const auto touch = [] {
    Array<float> x(count_up<float>(10));
    launch(add_to, 1, 32, x.data(), 1.0f, 10);
    if (x.host()[9] != 10) return;
    *static_cast<volatile float*>(x.data()) = 1;
  };
  weft_emulator::set_protected(true);
  CHECK(last_words(touch) != "");
  weft_emulator::set_protected(false);
  CHECK(last_words(touch) == "");
#ifdef WEFT_EMULATOR_ASAN
  weft_emulator::set_protected(true);
#endif
}

TEST_CASE("what makes the host wait is counted") {
  Array<float> x(8);
  Pinned host(8);
  Stream stream;
  Event event;
  std::vector<float> pageable(8);
  const auto counted = [&](const std::function<cudaError_t()>& call) {
    const uint64_t before = weft_emulator::stats().host_syncs;
    CHECK(call() == cudaSuccess);
    return weft_emulator::stats().host_syncs - before;
  };
  const size_t bytes = x.bytes();
  CHECK(counted([&] { return launch_in(stream, add_to, 1, 8, x.data(), 1.0f, 8); }) == 0);
  CHECK(counted([&] { return cudaMemsetAsync(x.data(), 0, bytes, stream); }) == 0);
  CHECK(counted([&] {
          return cudaMemcpyAsync(host.data, x.data(), bytes, cudaMemcpyDeviceToHost, stream);
        }) == 0);
  CHECK(counted([&] {
          return cudaMemcpyAsync(x.data(), host.data, bytes, cudaMemcpyHostToDevice, stream);
        }) == 0);
  CHECK(counted([&] { return cudaEventRecord(event, stream); }) == 0);
  CHECK(counted([&] { return cudaStreamWaitEvent(stream, event); }) == 0);
  CHECK(counted([&] { return cudaEventQuery(event); }) == 0);
  CHECK(counted([&] { return cudaEventSynchronize(event); }) == 1);
  CHECK(counted([&] { return cudaStreamSynchronize(stream); }) == 1);
  CHECK(counted([&] { return cudaDeviceSynchronize(); }) == 1);
  CHECK(counted([&] { return cudaMemcpy(host.data, x.data(), bytes, cudaMemcpyDeviceToHost); }) == 1);
  CHECK(counted([&] {
          return cudaMemcpyAsync(pageable.data(), x.data(), bytes, cudaMemcpyDeviceToHost, stream);
        }) == 1);
}

TEST_CASE("launches and copies are counted") {
  Array<float> x(8);
  const std::vector<float> host(8);
  weft_emulator::reset_stats();
  REQUIRE(launch(add_to, 2, 8, x.data(), 1.0f, 8) == cudaSuccess);
  REQUIRE(cudaMemcpy(x.data(), host.data(), 32, cudaMemcpyHostToDevice) == cudaSuccess);
  REQUIRE(cudaMemcpyAsync(x.data(), host.data(), 16, cudaMemcpyHostToDevice) == cudaSuccess);
  x.host();
  const weft_emulator::Stats stats = weft_emulator::stats();
  CHECK(stats.launches == 1);
  CHECK(stats.kernels == 1);
  CHECK(stats.threads == 16);
  CHECK(stats.copies_to_device == 2);
  CHECK(stats.bytes_to_device == 48);
  CHECK(stats.pageable_copies == 1);
  CHECK(stats.copies_to_host == 1);
  CHECK(stats.bytes_to_host == 32);
}

TEST_CASE("a launch can be made to fail") {
  Array<float> x(std::vector<float>(8));
  weft_emulator::fail_launch_after(1, cudaErrorLaunchOutOfResources);
  CHECK(launch(add_to, 1, 8, x.data(), 1.0f, 8) == cudaSuccess);
  CHECK(launch(add_to, 1, 8, x.data(), 1.0f, 8) == cudaErrorLaunchOutOfResources);
  CHECK(launch(add_to, 1, 8, x.data(), 1.0f, 8) == cudaSuccess);
  CHECK(x.host() == std::vector<float>(8, 2));
}

TEST_CASE("a captured graph repeats launches, copies and memsets with the arguments of then") {
  Array<float> x(std::vector<float>(8));
  Pinned input(8), output(8);
  Stream stream;
  for (size_t i = 0; i < 8; ++i) input[i] = 1, output[i] = -1;
  REQUIRE(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal) == cudaSuccess);
  float value = 2;
  CHECK(cudaMemcpyAsync(x.data(), input.data, 32, cudaMemcpyHostToDevice, stream) == cudaSuccess);
  CHECK(cudaMemsetAsync(x.data(), 0, 4, stream) == cudaSuccess);
  CHECK(launch_in(stream, add_to, 1, 8, x.data(), value, 8) == cudaSuccess);
  value = 3;
  CHECK(launch_in(stream, multiply, 1, 8, x.data(), value, 8) == cudaSuccess);
  value = 1000;
  CHECK(cudaMemcpyAsync(output.data, x.data(), 32, cudaMemcpyDeviceToHost, stream) == cudaSuccess);
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  CHECK(cudaStreamIsCapturing(stream, &status) == cudaSuccess);
  CHECK(status == cudaStreamCaptureStatusActive);
  cudaGraph_t graph = nullptr;
  REQUIRE(cudaStreamEndCapture(stream, &graph) == cudaSuccess);
  CHECK(output[0] == -1);
  CHECK(x.host() == std::vector<float>(8, 0));

  size_t nodes = 0;
  CHECK(cudaGraphGetNodes(graph, nullptr, &nodes) == cudaSuccess);
  CHECK(nodes == 5);
  cudaGraphExec_t executable = nullptr;
  REQUIRE(cudaGraphInstantiate(&executable, graph) == cudaSuccess);
  CHECK(cudaGraphDestroy(graph) == cudaSuccess);
  CHECK(cudaGraphDestroy(graph) == cudaErrorInvalidValue);
  const uint64_t kernels = weft_emulator::stats().kernels;
  for (int repeat = 0; repeat < 3; ++repeat) {
    for (size_t i = 0; i < 8; ++i) input[i] = static_cast<float>(repeat);
    CHECK(cudaGraphLaunch(executable, stream) == cudaSuccess);
    CHECK(output[0] == 6);
    CHECK(output[7] == static_cast<float>(3 * (repeat + 2)));
  }
  CHECK(weft_emulator::stats().kernels == kernels + 6);
  CHECK(cudaGraphExecDestroy(executable) == cudaSuccess);
  CHECK(cudaGraphLaunch(executable, stream) == cudaErrorInvalidValue);
}

TEST_CASE("what is forbidden during a capture fails and makes the capture invalid") {
  Array<float> x(8);
  Pinned pinned(8);
  Stream stream, other;
  Event outside, inside;
  std::vector<float> pageable(8);
  float* y = nullptr;
  REQUIRE(cudaEventRecord(outside, other) == cudaSuccess);
  struct Forbidden {
    const char* name;
    cudaError_t error;
    std::function<cudaError_t()> call;
  };
  const std::vector<Forbidden> calls{
      {"cudaMalloc", cudaErrorStreamCaptureUnsupported, [&] { return cudaMalloc(&y, 4); }},
      {"cudaFree", cudaErrorStreamCaptureUnsupported, [&] { return cudaFree(x.data()); }},
      {"cudaMallocHost", cudaErrorStreamCaptureUnsupported, [&] { return cudaMallocHost(&y, 4); }},
      {"cudaFreeHost", cudaErrorStreamCaptureUnsupported, [&] { return cudaFreeHost(pinned.data); }},
      {"cudaStreamSynchronize", cudaErrorStreamCaptureUnsupported,
       [&] { return cudaStreamSynchronize(stream); }},
      {"cudaDeviceSynchronize", cudaErrorStreamCaptureUnsupported, [&] { return cudaDeviceSynchronize(); }},
      {"cudaStreamQuery", cudaErrorStreamCaptureUnsupported, [&] { return cudaStreamQuery(stream); }},
      {"cudaStreamDestroy", cudaErrorStreamCaptureUnsupported, [&] { return cudaStreamDestroy(stream); }},
      {"cudaMemcpy", cudaErrorStreamCaptureUnsupported,
       [&] { return cudaMemcpy(x.data(), pageable.data(), 4, cudaMemcpyHostToDevice); }},
      {"pageable source", cudaErrorStreamCaptureUnsupported,
       [&] { return cudaMemcpyAsync(x.data(), pageable.data(), 4, cudaMemcpyHostToDevice, stream); }},
      {"pageable target", cudaErrorStreamCaptureUnsupported,
       [&] { return cudaMemcpyAsync(pageable.data(), x.data(), 4, cudaMemcpyDeviceToHost, stream); }},
      {"cudaEventQuery", cudaErrorStreamCaptureUnsupported, [&] { return cudaEventQuery(outside); }},
      {"cudaEventSynchronize", cudaErrorStreamCaptureUnsupported,
       [&] { return cudaEventSynchronize(outside); }},
      {"wait for work outside", cudaErrorStreamCaptureIsolation,
       [&] { return cudaStreamWaitEvent(stream, outside); }},
  };
  for (const auto mode : {cudaStreamCaptureModeGlobal, cudaStreamCaptureModeThreadLocal}) {
    for (const Forbidden& forbidden : calls) {
      CAPTURE(forbidden.name);
      REQUIRE(cudaStreamBeginCapture(stream, mode) == cudaSuccess);
      CHECK(launch_in(stream, add_to, 1, 8, x.data(), 1.0f, 8) == cudaSuccess);
      CHECK(forbidden.call() == forbidden.error);
      CHECK(launch_in(stream, add_to, 1, 8, x.data(), 1.0f, 8) == cudaErrorStreamCaptureInvalidated);
      cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
      CHECK(cudaStreamIsCapturing(stream, &status) == cudaSuccess);
      CHECK(status == cudaStreamCaptureStatusInvalidated);
      cudaGraph_t graph = nullptr;
      CHECK(cudaStreamEndCapture(stream, &graph) == cudaErrorStreamCaptureInvalidated);
      CHECK(graph == nullptr);
      CHECK(cudaStreamSynchronize(stream) == cudaSuccess);
    }
  }
  cudaGetLastError();
}

TEST_CASE("some calls are forbidden in one mode and allowed in another") {
  Stream stream;
  const auto malloc_during = [&](cudaStreamCaptureMode mode, bool in_other_thread) {
    REQUIRE(cudaStreamBeginCapture(stream, mode) == cudaSuccess);
    cudaError_t error = cudaSuccess;
    const auto call = [&] {
      float* x = nullptr;
      error = cudaMalloc(&x, 4);
      if (error == cudaSuccess) cudaFree(x);
    };
    if (in_other_thread) {
      std::thread(call).join();
    } else {
      call();
    }
    cudaGraph_t graph = nullptr;
    cudaStreamEndCapture(stream, &graph);
    if (graph) cudaGraphDestroy(graph);
    return error;
  };
  CHECK(malloc_during(cudaStreamCaptureModeGlobal, false) == cudaErrorStreamCaptureUnsupported);
  CHECK(malloc_during(cudaStreamCaptureModeGlobal, true) == cudaErrorStreamCaptureUnsupported);
  CHECK(malloc_during(cudaStreamCaptureModeThreadLocal, false) == cudaErrorStreamCaptureUnsupported);
  CHECK(malloc_during(cudaStreamCaptureModeThreadLocal, true) == cudaSuccess);
  CHECK(malloc_during(cudaStreamCaptureModeRelaxed, true) == cudaSuccess);
  cudaStreamCaptureMode mode = cudaStreamCaptureModeRelaxed;
  CHECK(cudaThreadExchangeStreamCaptureMode(&mode) == cudaSuccess);
  CHECK(malloc_during(cudaStreamCaptureModeGlobal, false) == cudaSuccess);
  CHECK(cudaThreadExchangeStreamCaptureMode(&mode) == cudaSuccess);
  CHECK(mode == cudaStreamCaptureModeRelaxed);
}

TEST_CASE("the default stream can't be captured, nor used beside a capture that it would wait for") {
  Array<float> x(std::vector<float>(8));
  CHECK(cudaStreamBeginCapture(nullptr, cudaStreamCaptureModeGlobal) == cudaErrorStreamCaptureUnsupported);
  cudaGraph_t graph = nullptr;
  Stream blocking(cudaStreamDefault), free;
  REQUIRE(cudaStreamBeginCapture(blocking, cudaStreamCaptureModeRelaxed) == cudaSuccess);
  CHECK(cudaStreamBeginCapture(blocking, cudaStreamCaptureModeRelaxed) == cudaErrorIllegalState);
  CHECK(launch(add_to, 1, 8, x.data(), 1.0f, 8) == cudaErrorStreamCaptureImplicit);
  CHECK(cudaStreamEndCapture(blocking, &graph) == cudaErrorStreamCaptureInvalidated);
  CHECK(cudaStreamEndCapture(blocking, &graph) == cudaErrorIllegalState);

  REQUIRE(cudaStreamBeginCapture(free, cudaStreamCaptureModeRelaxed) == cudaSuccess);
  CHECK(launch(add_to, 1, 8, x.data(), 1.0f, 8) == cudaSuccess);
  CHECK(launch_in(blocking, add_to, 1, 8, x.data(), 1.0f, 8) == cudaSuccess);
  REQUIRE(cudaStreamEndCapture(free, &graph) == cudaSuccess);
  size_t nodes = 7;
  CHECK(cudaGraphGetNodes(graph, nullptr, &nodes) == cudaSuccess);
  CHECK(nodes == 0);
  CHECK(cudaGraphDestroy(graph) == cudaSuccess);
  CHECK(x.host() == std::vector<float>(8, 2));
}

TEST_CASE("other streams join a capture through events, and must come back") {
  Array<float> x(std::vector<float>(8)), y(8);
  Stream stream, other, third;
  Event fork, join;
  cudaGraph_t graph = nullptr;
  const auto begin = [&] {
    REQUIRE(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal) == cudaSuccess);
    CHECK(launch_in(stream, add_to, 1, 8, x.data(), 1.0f, 8) == cudaSuccess);
    CHECK(cudaEventRecord(fork, stream) == cudaSuccess);
    CHECK(cudaStreamWaitEvent(other, fork) == cudaSuccess);
    CHECK(launch_in(other, multiply, 1, 8, x.data(), 2.0f, 8) == cudaSuccess);
    CHECK(cudaEventRecord(join, other) == cudaSuccess);
  };

  begin();
  CHECK(cudaEventQuery(join) == cudaErrorStreamCaptureUnsupported);
  CHECK(cudaStreamEndCapture(stream, &graph) == cudaErrorStreamCaptureInvalidated);

  begin();
  CHECK(cudaStreamEndCapture(other, &graph) == cudaErrorStreamCaptureUnmatched);
  CHECK(cudaStreamEndCapture(stream, &graph) == cudaErrorStreamCaptureInvalidated);

  begin();
  cudaError_t error = cudaSuccess;
  std::thread([&] { error = cudaStreamEndCapture(stream, &graph); }).join();
  CHECK(error == cudaErrorStreamCaptureWrongThread);
  CHECK(cudaStreamEndCapture(stream, &graph) == cudaErrorStreamCaptureUnjoined);

  begin();
  REQUIRE(cudaStreamBeginCapture(third, cudaStreamCaptureModeGlobal) == cudaSuccess);
  CHECK(cudaStreamWaitEvent(third, join) == cudaErrorStreamCaptureMerge);
  CHECK(cudaStreamEndCapture(third, &graph) == cudaErrorStreamCaptureInvalidated);
  CHECK(cudaStreamWaitEvent(stream, join) == cudaSuccess);
  CHECK(launch_in(other, add_to, 1, 8, x.data(), 1.0f, 8) == cudaSuccess);  // after its event
  CHECK(cudaStreamEndCapture(stream, &graph) == cudaErrorStreamCaptureUnjoined);
  CHECK(cudaStreamWaitEvent(third, join) == cudaErrorCapturedEvent);

  begin();
  CHECK(cudaStreamWaitEvent(stream, join) == cudaSuccess);
  CHECK(launch_in(stream, copy, 1, 8, x.data(), y.data()) == cudaSuccess);
  REQUIRE(cudaStreamEndCapture(stream, &graph) == cudaSuccess);
  CHECK(x.host() == std::vector<float>(8, 0));
  cudaGraphExec_t executable = nullptr;
  REQUIRE(cudaGraphInstantiate(&executable, graph) == cudaSuccess);
  CHECK(cudaGraphLaunch(executable, third) == cudaSuccess);
  CHECK(cudaGraphLaunch(executable, third) == cudaSuccess);
  CHECK(y.host() == std::vector<float>(8, 6));
  CHECK(cudaStreamSynchronize(other) == cudaSuccess);
  CHECK(cudaGraphExecDestroy(executable) == cudaSuccess);
  CHECK(cudaGraphDestroy(graph) == cudaSuccess);
  cudaGetLastError();
}

TEST_CASE("deferred work is done when somebody waits for it") {
  Array<float> x(std::vector<float>(8));
  Pinned host(8);
  Stream stream;
  host[7] = -1;
  const weft_emulator::Deferred deferred;
  REQUIRE(launch_in(stream, add_to, 1, 8, x.data(), 5.0f, 8) == cudaSuccess);
  REQUIRE(cudaMemcpyAsync(host.data, x.data(), 32, cudaMemcpyDeviceToHost, stream) == cudaSuccess);
  CHECK(host[7] == -1);
  CHECK(cudaStreamQuery(stream) == cudaErrorNotReady);
  CHECK(cudaStreamSynchronize(stream) == cudaSuccess);
  CHECK(cudaStreamQuery(stream) == cudaSuccess);
  CHECK(host[7] == 5);

  // A pinned source is read late, a pageable one at once.
  std::vector<float> pageable(8, 1);
  host[0] = 1;
  REQUIRE(cudaMemcpyAsync(x.data(), pageable.data(), 32, cudaMemcpyHostToDevice, stream) == cudaSuccess);
  REQUIRE(cudaMemcpyAsync(x.data(), host.data, 4, cudaMemcpyHostToDevice, stream) == cudaSuccess);
  pageable[7] = host[0] = 9;
  REQUIRE(cudaStreamSynchronize(stream) == cudaSuccess);
  CHECK(x.host()[0] == 9);
  CHECK(x.host()[7] == 1);

  // Freeing waits for the device.
  float* y = nullptr;
  REQUIRE(cudaMalloc(&y, 32) == cudaSuccess);
  REQUIRE(cudaMemsetAsync(y, 0, 32, stream) == cudaSuccess);
  REQUIRE(cudaFree(y) == cudaSuccess);
}

TEST_CASE("deferred streams wait for each other by events only") {
  Array<float> x(std::vector<float>(8)), y(std::vector<float>(8)), z(std::vector<float>(8));
  Stream first, second, third;
  Event done;
  const weft_emulator::Deferred deferred;
  REQUIRE(launch_in(first, add_to, 1, 8, x.data(), 3.0f, 8) == cudaSuccess);
  REQUIRE(cudaEventRecord(done, first) == cudaSuccess);
  REQUIRE(launch_in(first, add_to, 1, 8, x.data(), 4.0f, 8) == cudaSuccess);
  REQUIRE(cudaStreamWaitEvent(second, done) == cudaSuccess);
  REQUIRE(launch_in(second, copy, 1, 8, x.data(), y.data()) == cudaSuccess);
  REQUIRE(launch_in(third, copy, 1, 8, x.data(), z.data()) == cudaSuccess);  // forgot to wait
  REQUIRE(cudaStreamSynchronize(third) == cudaSuccess);
  CHECK(cudaEventQuery(done) == cudaErrorNotReady);
  REQUIRE(cudaStreamSynchronize(second) == cudaSuccess);
  CHECK(cudaEventQuery(done) == cudaSuccess);
  CHECK(z.host() == std::vector<float>(8, 0));
  CHECK(y.host() == std::vector<float>(8, 3));
  CHECK(x.host() ==
        std::vector<float>(8, 3));  // the default stream doesn't wait for streams that don't block
  REQUIRE(cudaDeviceSynchronize() == cudaSuccess);
  CHECK(x.host() == std::vector<float>(8, 7));

  Stream blocking(cudaStreamDefault);
  REQUIRE(launch_in(blocking, add_to, 1, 8, x.data(), 1.0f, 8) == cudaSuccess);
  CHECK(x.host() == std::vector<float>(8, 8));

  // Asking again and again comes to an end.
  REQUIRE(launch_in(first, add_to, 1, 8, x.data(), 1.0f, 8) == cudaSuccess);
  REQUIRE(cudaEventRecord(done, first) == cudaSuccess);
  int asked = 0;
  while (cudaEventQuery(done) == cudaErrorNotReady) ++asked;
  CHECK(asked == 2);
  cudaGetLastError();
}

TEST_CASE("host functions and events keep their place in a stream") {
  Stream stream;
  Event start, end;
  std::string order;
  const weft_emulator::Deferred deferred;
  const auto append = [](void* text) { *static_cast<std::string*>(text) += 'f'; };
  float milliseconds = -1;
  REQUIRE(cudaEventRecord(start, stream) == cudaSuccess);
  REQUIRE(cudaLaunchHostFunc(stream, append, &order) == cudaSuccess);
  REQUIRE(cudaEventRecord(end, stream) == cudaSuccess);
  REQUIRE(cudaLaunchHostFunc(stream, append, &order) == cudaSuccess);
  CHECK(order.empty());
  CHECK(cudaEventElapsedTime(&milliseconds, start, end) == cudaErrorNotReady);
  REQUIRE(cudaEventSynchronize(end) == cudaSuccess);
  CHECK(order == "f");
  CHECK(cudaEventElapsedTime(&milliseconds, start, end) == cudaSuccess);
  CHECK(milliseconds >= 0);
  REQUIRE(cudaStreamSynchronize(stream) == cudaSuccess);
  CHECK(order == "ff");
  cudaEvent_t untimed = nullptr;
  REQUIRE(cudaEventCreateWithFlags(&untimed, cudaEventDisableTiming) == cudaSuccess);
  REQUIRE(cudaEventRecord(untimed, stream) == cudaSuccess);
  CHECK(cudaEventElapsedTime(&milliseconds, start, untimed) == cudaErrorInvalidResourceHandle);
  REQUIRE(cudaEventDestroy(untimed) == cudaSuccess);
  cudaGetLastError();
}

}  // namespace
