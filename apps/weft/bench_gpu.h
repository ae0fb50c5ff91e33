// What the benchmarks share where they measure on a GPU.
#pragma once

#include <functional>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <vector>

#include "weft/apps/weft/bench.h"
#include "weft/engine/allocator.h"
#include "weft/engine/tensor.h"
#include "weft/kernels/cuda.h"
#include "weft/kernels/cuda/timing.h"

namespace weft::app {

/// Fields of every JSON row: device, device_name, precision, eager.
nlohmann::json gpu_fields(const BenchFlags& flags);

/// Uniform in [-1, 1). Large ones repeat themselves.
Tensor random_on_gpu(const Shape& shape, DType dtype);

/// Bytes a second, read and written, of a copy that is larger than the caches; the best of some.
double measure_gpu_copy_rate();
/// Operations a second of square matrix products, two for a multiply-add; the best of some sizes. Those of
/// f32 are of TF32, where that is allowed.
double measure_gpu_gemm_rate(DType dtype);

/// c = a b for square matrices on the GPU.
void square_product(const Tensor& a, const Tensor& b, const Tensor& c);

/// Passes of some work, done in turns: each pass several times (calls), then the next. Passes are captured as
/// graphs, so that what the CPU takes to launch a kernel is not measured. Memory comes from a pool of its
/// own.
class GpuPasses {
 public:
  /// max_calls: the most calls of a pass in a row.
  GpuPasses(bool capture, int64_t max_calls);

  static constexpr int64_t kMaxCalls = 16;

  /// Adds a pass. work(i) is call i of it, and always follows call i of the pass before. One that is not
  /// measured prepares the next.
  void add(std::function<void(int64_t call)> work, bool measured = true);
  /// Does all passes some times, for at least so many seconds. The median seconds of a call, of each pass
  /// that is measured.
  std::vector<double> operator()(double seconds);

 private:
  struct Pass {
    std::function<void(int64_t)> work;
    bool measured;
    std::unique_ptr<kernels::cuda::Graph> graph = {};
  };
  void prepare();
  void run(std::vector<std::vector<double>>& seconds);

  const bool capture_;
  const int64_t max_calls_;
  int64_t calls_ = 0;  // 0: not prepared
  MemoryPool pool_{Device::cuda};
  std::vector<Pass> passes_;
  kernels::cuda::Timer timer_;
};

}  // namespace weft::app
