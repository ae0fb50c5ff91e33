#pragma once
// For tests that run kernels in the emulator.

#include <cuda_runtime.h>
#include <doctest/doctest.h>
#include <weft_emulator.h>

#include <numeric>
#include <string>
#include <vector>

namespace weft_emulator::testing {

template <class... Expected, class... Actual>
cudaError_t launch_in(cudaStream_t stream, void (*kernel)(Expected...), dim3 grid, dim3 block,
                      Actual... arguments) {
  const cudaLaunchConfig_t config{grid, block, 0, stream, nullptr, 0};
  return cudaLaunchKernelEx(&config, kernel, arguments...);
}
template <class... Expected, class... Actual>
cudaError_t launch(void (*kernel)(Expected...), dim3 grid, dim3 block, Actual... arguments) {
  return launch_in(nullptr, kernel, grid, block, arguments...);
}

/// An array on the device.
template <class T>
class Array {
 public:
  explicit Array(size_t size) : size_(size) { REQUIRE(cudaMalloc(&data_, size * sizeof(T)) == cudaSuccess); }
  explicit Array(const std::vector<T>& values) : Array(values.size()) {
    REQUIRE(cudaMemcpy(data_, values.data(), size_ * sizeof(T), cudaMemcpyHostToDevice) == cudaSuccess);
  }
  ~Array() { cudaFree(data_); }
  Array(const Array&) = delete;
  Array& operator=(const Array&) = delete;
  T* data() { return data_; }
  size_t bytes() const { return size_ * sizeof(T); }
  std::vector<T> host() const {
    std::vector<T> values(size_);
    REQUIRE(cudaMemcpy(values.data(), data_, size_ * sizeof(T), cudaMemcpyDeviceToHost) == cudaSuccess);
    return values;
  }

 private:
  size_t size_;
  T* data_ = nullptr;
};

template <class T>
std::vector<T> count_up(size_t size, T first = 0) {
  std::vector<T> values(size);
  std::iota(values.begin(), values.end(), first);
  return values;
}

/// What `action` writes to stderr when it ends the program, run in a process of its own; empty if it doesn't.
std::string last_words(void (*action)());

}  // namespace weft_emulator::testing
