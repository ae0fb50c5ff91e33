// weft bench gemm: our matrix product beside the machine's peak, and beside OpenBLAS where that is installed.
#include <dlfcn.h>
#include <fmt/core.h>

#include <nlohmann/json.hpp>

#include "weft/apps/weft/bench.h"
#include "weft/apps/weft/command.h"
#include "weft/engine/tensor.h"
#include "weft/kernels/cpu/peak.h"
#include "weft/kernels/kernels.h"
#include "weft/kernels/parallel.h"

namespace weft::app {
namespace {

/// OpenBLAS, if the system has one; loaded at run time, for comparison only.
class OpenBlas {
 public:
  OpenBlas() : library_(dlopen("libopenblas.so.0", RTLD_NOW | RTLD_LOCAL)) {
    if (!library_) return;
    sgemm_ = reinterpret_cast<Sgemm>(dlsym(library_, "cblas_sgemm"));
    if (auto core = reinterpret_cast<const char* (*)()>(dlsym(library_, "openblas_get_corename")))
      core_ = core();
    if (auto set = reinterpret_cast<void (*)(int)>(dlsym(library_, "openblas_set_num_threads")))
      set(num_threads());
  }
  bool usable() const { return sgemm_ != nullptr; }
  /// The CPU whose kernels it chose; not always the one that it runs on.
  const std::string& core() const { return core_; }
  void sgemm(int n, const float* a, const float* b, float* c) const {
    constexpr int kRowMajor = 101, kNoTranspose = 111;
    sgemm_(kRowMajor, kNoTranspose, kNoTranspose, n, n, n, 1, a, n, b, n, 0, c, n);
  }

 private:
  using Sgemm = void (*)(int, int, int, int, int, int, float, const float*, int, const float*, int, float,
                         float*, int);
  void* library_;  // stays loaded: its threads do not survive an unload
  Sgemm sgemm_ = nullptr;
  std::string core_ = "unknown";
};

}  // namespace

int bench_gemm(const BenchFlags& flags) {
  if (flags.place.gpu()) return bench_gemm_gpu(flags);
  const OpenBlas openblas;
  Rows rows({{"n", "n", 6, 0},
             {"gflops", "GFLOP/s", 10, 1},
             {"peak_gflops", "peak", 10, 1},
             {"share_of_peak", "of peak", 9, 2},
             {"openblas_gflops", "OpenBLAS", 10, 1},
             {"openblas_share_of_peak", "of peak", 9, 2}},
            flags.json);
  rows.text(fmt::format("square matrix products, {}, kernels {}, {} threads; OpenBLAS core, in fp32: {}",
                        flags.precision, kernels::cpu().name, num_threads(),
                        openblas.usable() ? openblas.core() : "not installed"));
  for (int64_t n : {256, 512, 1024, 2048}) {
    const double peak = kernels::measure_fma_peak(num_threads());
    const Tensor a = Tensor::uniform({n, n}, -1, 1), b = Tensor::uniform({n, n}, -1, 1),
                 c = Tensor::empty({n, n});
    const double flops = 2.0 * double(n) * double(n) * double(n);
    kernels::GemmParams p{.m = n, .n = n, .k = n, .bf16 = may_round_to_bf16(), .lda = n, .ldb = n, .ldc = n};
    const double ours = median(time_for(
        [&] { kernels::cpu().gemm(p, a.data<float>(), b.data<float>(), c.data<float>()); }, flags.seconds));
    nlohmann::json row = {{"bench", "gemm"},
                          {"n", n},
                          {"kernels", kernels::cpu().name},
                          {"precision", flags.precision},
                          {"threads", num_threads()},
                          {"seconds", ours},
                          {"gflops", flops / ours * 1e-9},
                          {"peak_gflops", peak},
                          {"share_of_peak", flops / ours * 1e-9 / peak}};
    if (openblas.usable()) {
      const double theirs = median(time_for(
          [&] { openblas.sgemm(int(n), a.data<float>(), b.data<float>(), c.data<float>()); }, flags.seconds));
      row["openblas_core"] = openblas.core();
      row["openblas_gflops"] = flops / theirs * 1e-9;
      row["openblas_share_of_peak"] = flops / theirs * 1e-9 / peak;
    }
    rows.print(row);
  }
  return kDone;
}

}  // namespace weft::app
