#include "weft/apps/weft/bench_gpu.h"

#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>

#include "weft/engine/dispatch.h"
#include "weft/kernels/cuda/augment.h"

namespace weft::app {

namespace cuda = kernels::cuda;

namespace {

/// The least seconds of some calls, after one that is not counted.
double best_seconds(const std::function<void()>& work) {
  cuda::Timer timer;
  work();
  timer.mark();
  for (int i = 0; i < 5; ++i) {
    work();
    timer.mark();
  }
  const std::vector<double> seconds = timer.seconds();
  return *std::min_element(seconds.begin(), seconds.end());
}

struct Release {
  void operator()(void* memory) const { cuda::release(memory); }
};

}  // namespace

nlohmann::json gpu_fields(const BenchFlags& flags) {
  return {{"device", name_of(flags.place.device)},
          {"device_name", cuda::device_info().name},
          {"precision", flags.precision},
          {"eager", !flags.place.capture}};
}

Tensor random_on_gpu(const Shape& shape, DType dtype) {
  constexpr int64_t kDrawn = int64_t{1} << 20;
  const Tensor t = Tensor::empty(shape, dtype, Device::cuda);
  const Tensor some = Tensor::uniform({std::min(kDrawn, t.numel())}, -1, 1).to(Device::cuda).to(dtype);
  char* to = static_cast<char*>(t.raw());
  cuda::copy(to, some.raw(), some.bytes());
  for (int64_t done = some.bytes(); done < t.bytes(); done *= 2)
    cuda::copy(to + done, to, std::min(done, t.bytes() - done));
  return t;
}

double measure_gpu_copy_rate() {
  constexpr int64_t kSmallest = int64_t{4} << 20, kLargest = int64_t{1} << 30;
  double rate = 0;
  for (int64_t bytes = kSmallest; bytes <= kLargest; bytes *= 4) {
    const std::unique_ptr<void, Release> from(cuda::allocate(bytes)), to(cuda::allocate(bytes));
    if (!from || !to) break;
    const double seconds = best_seconds([&] { cuda::copy(to.get(), from.get(), bytes); });
    rate = 2 * double(bytes) / seconds;  // that of the largest: small ones stay in the cache
    if (seconds > 5e-3) break;
  }
  check(rate > 0, "bench: there is no memory on the GPU for a copy");
  return rate;
}

double measure_gpu_gemm_rate(DType dtype) {
  double best = 0;
  for (int64_t n = 256; n <= 8192; n *= 2) {
    const Tensor a = random_on_gpu({n, n}, dtype), b = random_on_gpu({n, n}, dtype),
                 c = Tensor::empty({n, n}, dtype, Device::cuda);
    const double seconds = best_seconds([&] { square_product(a, b, c); });
    best = std::max(best, 2 * double(n) * double(n) * double(n) / seconds);
    if (seconds > 5e-3) break;  // a slower device has shown by now what it can do
  }
  empty_cache(Device::cuda);
  return best;
}

void square_product(const Tensor& a, const Tensor& b, const Tensor& c) {
  const int64_t n = a.size(0);
  dispatch("bench", a, [&](const auto& k) {
    using T = kernel_type<decltype(k)>;
    k.gemm({.m = n, .n = n, .k = n, .lda = n, .ldb = n, .ldc = n}, a.data<T>(), b.data<T>(), c.data<T>());
  });
}

GpuPasses::GpuPasses(bool capture, int64_t max_calls) : capture_(capture), max_calls_(max_calls) {
  check(max_calls >= 1 && max_calls <= kMaxCalls, "bench: ", max_calls, " calls");
}

void GpuPasses::add(std::function<void(int64_t)> work, bool measured) {
  passes_.push_back({std::move(work), measured});
}

/// Adds seconds of a call to those of each pass.
void GpuPasses::run(std::vector<std::vector<double>>& seconds) {
  constexpr int kRounds = 5;
  timer_.mark();
  for (int round = 0; round < kRounds; ++round)
    for (const Pass& pass : passes_) {
      if (pass.graph)
        pass.graph->launch();
      else
        for (int64_t i = 0; i < calls_; ++i) pass.work(i);
      timer_.mark();
    }
  seconds.resize(passes_.size());
  const std::vector<double> times = timer_.seconds();
  for (size_t i = 0; i < times.size(); ++i) seconds[i % passes_.size()].push_back(times[i] / double(calls_));
}

void GpuPasses::prepare() {
  // Eagerly first: that finds plans for convolutions, fills the pool, and tells how long a call takes.
  calls_ = 1;
  std::vector<std::vector<double>> seconds;
  run(seconds);
  double shortest = 1;
  for (size_t p = 0; p < passes_.size(); ++p)
    if (passes_[p].measured) shortest = std::min(shortest, median(seconds[p]));
  // So many calls in a row that the start of a graph doesn't count, as far as there is memory.
  constexpr double kInARow = 200e-6;
  const int64_t memory = cuda::free_memory() / 2 / std::max<int64_t>(1, int64_t(pool_.stats().peak));
  calls_ =
      std::max<int64_t>(1, std::min({max_calls_, memory, int64_t(kInARow / std::max(shortest, 1e-9)) + 1}));
  if (!capture_) return;
  for (Pass& pass : passes_)
    pass.graph = cuda::capture([&] {
      for (int64_t i = 0; i < calls_; ++i) pass.work(i);
    });
}

std::vector<double> GpuPasses::operator()(double seconds) {
  const MemoryPool::Use use(pool_);
  if (calls_ == 0) prepare();
  std::vector<std::vector<double>> times;
  const auto start = std::chrono::steady_clock::now();
  do run(times);
  while (std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() < seconds);
  std::vector<double> result;
  for (size_t p = 0; p < passes_.size(); ++p)
    if (passes_[p].measured) result.push_back(median(times[p]));
  return result;
}

}  // namespace weft::app
