// weft bench gemm --device cuda: matrix products beside the fastest of them.
#include <fmt/core.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "weft/apps/weft/bench_gpu.h"
#include "weft/apps/weft/command.h"

namespace weft::app {

int bench_gemm_gpu(const BenchFlags& flags) {
  constexpr int64_t kSmallest = 256, kLargest = 16384;
  constexpr double kTooLong = 0.1;  // seconds of one product
  struct Product {
    int64_t n;
    double seconds;
    double rate() const { return 2 * double(n) * double(n) * double(n) / seconds; }
  };
  std::vector<Product> products;
  double best = 0;
  for (int64_t n = kSmallest; n <= kLargest; n *= 2) {
    if (!products.empty() && 8 * products.back().seconds > kTooLong) break;
    const Tensor a = random_on_gpu({n, n}, flags.place.dtype), b = random_on_gpu({n, n}, flags.place.dtype),
                 c = Tensor::empty({n, n}, flags.place.dtype, Device::cuda);
    GpuPasses passes(flags.place.capture, GpuPasses::kMaxCalls);
    passes.add([&](int64_t) { square_product(a, b, c); });
    products.push_back({n, passes(flags.seconds).front()});
    best = std::max(best, products.back().rate());
  }
  Rows rows({{"n", "n", 6, 0},
             {"milliseconds", "ms", 10, 3},
             {"gflops", "GFLOP/s", 10, 0},
             {"share_of_gemm", "of best", 9, 2}},
            flags.json);
  rows.text(
      fmt::format("square matrix products, {} on {}", flags.precision, kernels::cuda::device_info().name));
  for (const Product& p : products) {
    nlohmann::json row = gpu_fields(flags);
    row.update({{"bench", "gemm"},
                {"n", p.n},
                {"kernels", "cuda"},
                {"seconds", p.seconds},
                {"milliseconds", p.seconds * 1e3},
                {"gflops", p.rate() * 1e-9},
                {"gemm_gflops", best * 1e-9},
                {"share_of_gemm", p.rate() / best}});
    rows.print(row);
  }
  return kDone;
}

}  // namespace weft::app
