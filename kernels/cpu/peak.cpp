#include "weft/kernels/cpu/peak.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "weft/kernels/kernels.h"

namespace weft::kernels {

#ifdef WEFT_WITH_avx512
namespace avx512 {
double fma_rounds(int64_t rounds, float* sink);
}
#endif
#ifdef WEFT_WITH_avx2
namespace avx2 {
double fma_rounds(int64_t rounds, float* sink);
}
#endif
#ifdef __aarch64__
namespace neon {
double fma_rounds(int64_t rounds, float* sink);
}
#else
namespace baseline {
double fma_rounds(int64_t rounds, float* sink);
}
#endif

namespace {

using Clock = std::chrono::steady_clock;
constexpr int kRuns = 5;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

/// Runs body(thread) on that many fresh threads, all begun before the clock starts; returns the seconds until
/// the last is done.
template <class F>
double run_together(int threads, F body) {
  std::atomic<int> ready{0};
  std::atomic<bool> go{false};
  std::vector<std::thread> others;
  for (int i = 1; i < threads; ++i)
    others.emplace_back([&, i] {
      ++ready;
      while (!go) std::this_thread::yield();
      body(i);
    });
  while (ready < threads - 1) std::this_thread::yield();
  const auto start = Clock::now();
  go = true;
  body(0);
  for (std::thread& thread : others) thread.join();
  return seconds_since(start);
}

auto choose_rounds() {
  [[maybe_unused]] const std::string_view name = cpu().name;
#ifdef WEFT_WITH_avx512
  if (name == "avx512") return avx512::fma_rounds;
#endif
#ifdef WEFT_WITH_avx2
  if (name == "avx2") return avx2::fma_rounds;
#endif
#ifdef __aarch64__
  return neon::fma_rounds;
#else
  return baseline::fma_rounds;
#endif
}

}  // namespace

double measure_fma_peak(int threads) {
  const auto rounds = choose_rounds();
  int64_t count = 1 << 16;
  const auto measure = [&] {
    std::vector<float> sinks(size_t(threads) * 64);
    std::atomic<double> operations{0};
    const double seconds = run_together(threads, [&](int i) {
      const double done = rounds(count, &sinks[size_t(i) * 64]);
      double before = operations;
      while (!operations.compare_exchange_weak(before, before + done)) {
      }
    });
    return std::pair(operations / seconds * 1e-9, seconds);
  };
  while (measure().second < 0.01) count *= 2;  // warms the clock up, too
  double best = 0;
  for (int run = 0; run < kRuns; ++run) best = std::max(best, measure().first);
  return best;
}

double measure_copy_bandwidth(int threads) {
  constexpr size_t kBytes = size_t{64} << 20;
  std::vector<std::vector<char>> from(static_cast<size_t>(threads)), to(static_cast<size_t>(threads));
  run_together(threads, [&](int i) {  // each thread touches its memory first
    from[size_t(i)].assign(kBytes, 1);
    to[size_t(i)].assign(kBytes, 2);
  });
  double best = 0;
  for (int run = 0; run < kRuns; ++run) {
    const double seconds = run_together(
        threads, [&](int i) { std::memcpy(to[size_t(i)].data(), from[size_t(i)].data(), kBytes); });
    best = std::max(best, 2.0 * double(kBytes) * threads / seconds * 1e-9);
  }
  return best;
}

}  // namespace weft::kernels
