// Matrix products by cuBLASLt. It sees matrices by columns: what is [rows, cols] here is its transpose
// [cols, rows] there, so that c = op(a) op(b) is asked for as c' = op(b)' op(a)'.
#include <algorithm>
#include <charconv>
#include <cstdio>
#include <iterator>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <type_traits>
#include <unordered_map>
#include <utility>
#include <vector>

#include "weft/kernels/cuda/device.h"
#include "weft/kernels/cuda/families.h"
#include "weft/kernels/cuda/nvidia.h"
#include "weft/kernels/cuda/plain_product.h"
#include "weft/kernels/cuda/plan_cache.h"
#include "weft/kernels/cuda/timing.h"
#include "weft/kernels/precision.h"

namespace weft::kernels::cuda {
namespace {

void check(cublasStatus_t status, const char* call) {
  if (status != CUBLAS_STATUS_SUCCESS)
    throw Error(std::string(call) + ": " + nvidia().cublasLtGetStatusName(status) + ": " +
                nvidia().cublasLtGetStatusString(status));
}

constexpr size_t kWorkspace = size_t{32} << 20;  // what cuBLAS itself takes on sm_90
constexpr int64_t kMaxBatch = 65535;             // a limit of grids in y and z
constexpr int kMaxCandidates = 10;
constexpr int64_t kMeasured = int64_t{1} << 20;  // multiply-adds from which on candidates are measured

template <class T>
constexpr cudaDataType_t kDataType = std::is_same_v<T, float>  ? CUDA_R_32F
                                     : std::is_same_v<T, bf16> ? CUDA_R_16BF
                                                               : CUDA_R_16F;

struct Key {
  GemmParams p;
  cudaDataType_t type;
  bool tf32, deterministic;
  uint32_t align_a, align_b, align_c;

  bool operator==(const Key& o) const {
    return p.m == o.p.m && p.n == o.p.n && p.k == o.p.k && p.transpose_a == o.p.transpose_a &&
           p.transpose_b == o.p.transpose_b && p.accumulate == o.p.accumulate && p.lda == o.p.lda &&
           p.ldb == o.p.ldb && p.ldc == o.p.ldc && p.batch == o.p.batch && p.stride_a == o.p.stride_a &&
           p.stride_b == o.p.stride_b && p.stride_c == o.p.stride_c && type == o.type && tf32 == o.tf32 &&
           deterministic == o.deterministic && align_a == o.align_a && align_b == o.align_b &&
           align_c == o.align_c;
  }
  /// All that an algorithm depends on.
  std::string text() const {
    std::string out = "product";
    for (const int64_t v :
         {p.m, p.n, p.k, int64_t(p.transpose_a), int64_t(p.transpose_b), int64_t(p.accumulate), p.lda, p.ldb,
          p.ldc, p.batch, p.stride_a, p.stride_b, p.stride_c, int64_t(type), int64_t(tf32), int64_t(align_a),
          int64_t(align_b), int64_t(align_c)})
      out += " " + std::to_string(v);
    return out;
  }
};
struct KeyHash {
  size_t operator()(const Key& key) const {
    const GemmParams& p = key.p;
    size_t h = size_t(key.type) * 16 + size_t(key.tf32) * 8 + size_t(p.transpose_a) * 4 +
               size_t(p.transpose_b) * 2 + size_t(p.accumulate) + size_t(key.deterministic) * 32;
    for (const int64_t v : {p.m, p.n, p.k, p.lda, p.ldb, p.ldc, p.batch, p.stride_a, p.stride_b, p.stride_c,
                            int64_t(key.align_a), int64_t(key.align_b), int64_t(key.align_c)})
      h = (h ^ size_t(v)) * 0x9e3779b97f4a7c15u + (h >> 29);
    return h;
  }
};

struct Algorithm {
  cublasLtMatmulAlgo_t algorithm{};
  bool measured = false;  // or just cuBLASLt's first
};

struct Library {
  std::mutex mutex;
  cublasLtHandle_t handle = nullptr;
  Memory workspace[kLanes];
  std::string machine;  // what algorithms depend on besides their key
  std::unordered_map<Key, Algorithm, KeyHash> algorithms;
};

// Never destroyed: at the end of the process CUDA may be gone before it.
Library& library() {
  static Library* const made = [] {
    stream();  // chooses the device
    auto l = std::make_unique<Library>();
    l->machine = "cublasLt " + std::to_string(nvidia().cublasLtGetVersion()) + " on " + device_info().name;
    for (Memory& workspace : l->workspace) {
      workspace.reset(allocate_own(int64_t(kWorkspace)));
      if (!workspace) throw OutOfMemoryError("gemm: 32 MiB of the GPU for cuBLASLt could not be had");
    }
    check(nvidia().cublasLtCreate(&l->handle), "cublasLtCreate");  // last, as nothing gives it back
    return l.release();
  }();
  return *made;
}

/// The largest power of two, at most 256, that divides the address, and with it all matrices of the batch.
uint32_t alignment(const void* pointer, int64_t stride_bytes) {
  const uint64_t bits = uint64_t(reinterpret_cast<uintptr_t>(pointer)) | uint64_t(stride_bytes) | 256u;
  return uint32_t(bits & (~bits + 1));
}

cublasLtMatrixLayoutOpaque_t layout(cudaDataType_t type, int64_t rows, int64_t cols, int64_t ld,
                                    int64_t batch, int64_t stride) {
  cublasLtMatrixLayoutOpaque_t l;
  check(nvidia().cublasLtMatrixLayoutInit_internal(&l, sizeof l, type, uint64_t(rows), uint64_t(cols), ld),
        "cublasLtMatrixLayoutInit");
  if (batch > 1) {
    const int32_t count = int32_t(batch);
    check(nvidia().cublasLtMatrixLayoutSetAttribute(&l, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &count,
                                                    sizeof count),
          "cublasLtMatrixLayoutSetAttribute(batch count)");
    check(nvidia().cublasLtMatrixLayoutSetAttribute(&l, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &stride,
                                                    sizeof stride),
          "cublasLtMatrixLayoutSetAttribute(batch stride)");
  }
  return l;
}

/// A product as cuBLASLt is asked for it: d = alpha b a (+ beta c), by columns.
struct Product {
  const Key& key;
  const float alpha, beta;
  cublasLtMatmulDescOpaque_t operation;
  cublasLtMatrixLayoutOpaque_t b, a, c;

  Product(const Key& key, float alpha, float beta)
      : key(key), alpha(alpha), beta(key.p.accumulate ? beta : 0) {
    const GemmParams& p = key.p;
    check(nvidia().cublasLtMatmulDescInit_internal(
              &operation, sizeof operation,
              key.type == CUDA_R_32F && key.tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F,
              CUDA_R_32F),
          "cublasLtMatmulDescInit");
    const auto transpose = [&](cublasLtMatmulDescAttributes_t name, bool on) {
      const cublasOperation_t value = on ? CUBLAS_OP_T : CUBLAS_OP_N;
      check(nvidia().cublasLtMatmulDescSetAttribute(&operation, name, &value, sizeof value),
            "cublasLtMatmulDescSetAttribute");
    };
    transpose(CUBLASLT_MATMUL_DESC_TRANSA, p.transpose_b);
    transpose(CUBLASLT_MATMUL_DESC_TRANSB, p.transpose_a);
    b = layout(key.type, p.transpose_b ? p.k : p.n, p.transpose_b ? p.n : p.k, p.ldb, p.batch, p.stride_b);
    a = layout(key.type, p.transpose_a ? p.m : p.k, p.transpose_a ? p.k : p.m, p.lda, p.batch, p.stride_a);
    c = layout(key.type, p.n, p.m, p.ldc, p.batch, p.stride_c);
  }

  void run(const Library& l, const cublasLtMatmulAlgo_t& algorithm, const void* at_a, const void* at_b,
           const void* at_c, void* d) {
    check(nvidia().cublasLtMatmul(l.handle, &operation, &alpha, at_b, &b, at_a, &a, &beta, at_c, &c, d, &c,
                                  &algorithm, l.workspace[lane()].get(), kWorkspace, stream()),
          "cublasLtMatmul");
  }

  /// What cuBLASLt proposes, the best by its own estimate first; at least one.
  std::vector<cublasLtMatmulAlgo_t> candidates(const Library& l, int most) {
    cublasLtMatmulPreferenceOpaque_t preference;
    check(nvidia().cublasLtMatmulPreferenceInit_internal(&preference, sizeof preference),
          "cublasLtMatmulPreferenceInit");
    const auto prefer = [&](cublasLtMatmulPreferenceAttributes_t name, auto value) {
      check(nvidia().cublasLtMatmulPreferenceSetAttribute(&preference, name, &value, sizeof value),
            "cublasLtMatmulPreferenceSetAttribute");
    };
    prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, uint64_t(kWorkspace));
    // Parts of a sum are added up in float, and not in the type of c.
    prefer(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, uint32_t(CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE));
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, key.align_b);  // its a is our b
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, key.align_a);
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, key.align_c);
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, key.align_c);
    std::vector<cublasLtMatmulHeuristicResult_t> results(static_cast<size_t>(most));
    int found = 0;
    check(nvidia().cublasLtMatmulAlgoGetHeuristic(l.handle, &operation, &b, &a, &c, &c, &preference, most,
                                                  results.data(), &found),
          "cublasLtMatmulAlgoGetHeuristic");
    std::vector<cublasLtMatmulAlgo_t> algorithms;
    for (int i = 0; i < found; ++i)
      if (results[size_t(i)].state == CUBLAS_STATUS_SUCCESS) algorithms.push_back(results[size_t(i)].algo);
    if (algorithms.empty())
      throw Error("cublasLtMatmulAlgoGetHeuristic: no algorithm for this matrix product");
    return algorithms;
  }

  /// The fastest of them. Writes d.
  Algorithm fastest(const Library& l, const void* at_a, const void* at_b, const void* at_c, void* d) {
    const auto all = candidates(l, kMaxCandidates);
    Algorithm best{all.front(), true};
    float best_time = 0;
    for (const cublasLtMatmulAlgo_t& candidate : all) try {
        const float time = time_of([&] { run(l, candidate, at_a, at_b, at_c, d); });
        if (best_time == 0 || time < best_time) best.algorithm = candidate, best_time = time;
      } catch (const Error&) {
        // What can't run is none.
      }
    return best;
  }

  /// From what to_text() gave, where it suits this product.
  std::optional<Algorithm> from_text(const Library& l, const std::string& text) {
    Algorithm made{{}, true};
    constexpr size_t kWords = std::size(made.algorithm.data);
    if (text.size() != kWords * 16) return {};
    for (size_t i = 0; i < kWords; ++i) {
      const char* const from = text.data() + i * 16;
      if (std::from_chars(from, from + 16, made.algorithm.data[i], 16).ptr != from + 16) return {};
    }
    cublasLtMatmulHeuristicResult_t result{};
    if (nvidia().cublasLtMatmulAlgoCheck(l.handle, &operation, &b, &a, &c, &c, &made.algorithm, &result) !=
            CUBLAS_STATUS_SUCCESS ||
        result.state != CUBLAS_STATUS_SUCCESS || result.workspaceSize > kWorkspace)
      return {};
    return made;
  }
};
std::string to_text(const cublasLtMatmulAlgo_t& algorithm) {
  std::string text;
  for (const uint64_t word : algorithm.data) {
    char digits[17];
    std::snprintf(digits, sizeof digits, "%016llx", static_cast<unsigned long long>(word));
    text += digits;
  }
  return text;
}

/// Whether it is worth the time.
bool is_large(const GemmParams& p) {
  return double(p.m) * double(p.n) * double(p.k) * double(p.batch) >= double(kMeasured);
}

/// From this process, from the folder, measured, or cuBLASLt's first.
const cublasLtMatmulAlgo_t& choose(Library& l, Product& product, const void* a, const void* b, const void* c,
                                   void* d) {
  const Key& key = product.key;
  const auto known = l.algorithms.find(key);
  if (known != l.algorithms.end() && known->second.measured) return known->second.algorithm;
  const bool measure = is_large(key.p) && can_measure();
  if (known != l.algorithms.end() && !measure) return known->second.algorithm;
  const std::string folder = key.deterministic ? std::string() : plan_cache_folder();
  const std::string name = key.text() + ", " + l.machine;
  if (!folder.empty())
    if (const auto text = read_plan(folder, name))
      if (const auto made = product.from_text(l, *text)) return (l.algorithms[key] = *made).algorithm;
  if (!measure) return (l.algorithms[key] = {product.candidates(l, 1).front()}).algorithm;

  // A sum in place would grow with each run: it goes elsewhere meanwhile.
  const GemmParams& p = key.p;
  Memory apart;
  if (p.accumulate && c == d) {
    const int64_t elements = (p.batch - 1) * p.stride_c + (p.m - 1) * p.ldc + p.n;
    apart.reset(allocate_own(elements * (key.type == CUDA_R_32F ? 4 : 2)));
    if (!apart) return (l.algorithms[key] = {product.candidates(l, 1).front()}).algorithm;
  }
  const FirstLane others_wait;
  const Algorithm& kept = l.algorithms[key] = product.fastest(l, a, b, c, apart ? apart.get() : d);
  if (!folder.empty()) write_plan(folder, name, to_text(kept.algorithm));
  return kept.algorithm;
}

/// A product of which no size is 0 and whose strides are the true ones; beta c is added where p.accumulate
/// says so.
void multiply(const Key& key, float alpha, const void* a, const void* b, float beta, const void* c, void* d) {
  Library& l = library();
  const std::lock_guard lock(l.mutex);
  Product product(key, alpha, beta);
  product.run(l, choose(l, product, a, b, c, d), a, b, c, d);
}

/// d = alpha op(a) op(b) (+ beta c if p.accumulate).
template <class T>
void product(GemmParams p, float alpha, const T* a, const T* b, float beta, const T* c, T* d) {
  if (p.m == 0 || p.n == 0 || p.batch == 0) return;
  if (p.k == 0) {
    const size_t step = size_t(std::max(p.ldc, p.n)) * sizeof(T), width = size_t(p.n) * sizeof(T);
    for (int64_t i = 0; i < p.batch; ++i) {
      T* di = d + i * p.stride_c;
      if (!p.accumulate || beta == 0)
        cuda::check(cudaMemset2DAsync(di, step, 0, width, size_t(p.m), stream()), "cudaMemset2DAsync");
      else if (beta != 1)
        for (int64_t row = 0; row < p.m; ++row)
          cuda::table<T>().affine(p.n, beta, 0, c + i * p.stride_c + row * p.ldc, di + row * p.ldc);
      else if (c != d)
        cuda::check(cudaMemcpy2DAsync(di, step, c + i * p.stride_c, step, width, size_t(p.m),
                                      cudaMemcpyDeviceToDevice, stream()),
                    "cudaMemcpy2DAsync");
    }
    return;
  }
  // The step between rows says nothing where there is one row, and cuBLASLt refuses too small a one.
  if ((p.transpose_a ? p.k : p.m) == 1) p.lda = p.transpose_a ? p.m : p.k;
  if ((p.transpose_b ? p.n : p.k) == 1) p.ldb = p.transpose_b ? p.k : p.n;
  if (p.m == 1) p.ldc = p.n;
  if (p.batch == 1) p.stride_a = p.stride_b = p.stride_c = 0;

  // All of a batch into one d is a chain of products; else as many at once as there can be.
  const int64_t at_once = p.stride_c == 0 ? 1 : kMaxBatch, batch = p.batch;
  for (int64_t i = 0; i < batch; i += at_once) {
    p.batch = std::min(at_once, batch - i);
    const T *ai = a + i * p.stride_a, *bi = b + i * p.stride_b;
    T* di = d + i * p.stride_c;
    const bool goes_on = i > 0 && p.stride_c == 0;
    const T* ci = goes_on ? di : c + i * p.stride_c;
    const float beta_i = goes_on ? 1 : beta;
    if (own_kernels_only()) {
      plain_product(p, alpha, ai, bi, beta_i, ci, di);
      continue;
    }
    constexpr int64_t size = sizeof(T);
    multiply({p, kDataType<T>, float32_matmul_precision() != MatmulPrecision::highest, deterministic(),
              alignment(ai, p.stride_a * size), alignment(bi, p.stride_b * size),
              std::min(alignment(ci, p.stride_c * size), alignment(di, p.stride_c * size))},
             alpha, ai, bi, beta_i, ci, di);
  }
}

}  // namespace

template <class T>
void set_gemm(KernelTable<T>& table) {
  table.gemm = [](const GemmParams& p, const T* a, const T* b, T* c) { product(p, 1, a, b, 1, c, c); };
  table.gemm_add = [](const GemmParams& p, float alpha, const T* a, const T* b, float beta, const T* c,
                      T* d) {
    GemmParams q = p;
    q.accumulate = true;
    product(q, alpha, a, b, beta, c, d);
  };
}

template void set_gemm(KernelTable<float>&);
template void set_gemm(KernelTable<bf16>&);
template void set_gemm(KernelTable<f16>&);

}  // namespace weft::kernels::cuda
