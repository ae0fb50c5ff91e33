// In the place of cuBLASLt and cuDNN where kernels run on the emulated device: the entries of kernels/cuda's
// gemm.cpp and convolution.cpp, computed in float by the kernels of the CPU. The work is done in the stream's
// order, and a capture records it.
#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>
#include <deque>
#include <functional>
#include <utility>
#include <vector>

#include "weft/kernels/convolution.h"
#include "weft/kernels/cuda/conv_stats.h"
#include "weft/kernels/cuda/convolution_kernels.h"
#include "weft/kernels/cuda/device.h"
#include "weft/kernels/cuda/families.h"
#include "weft/kernels/cuda/memset_nodes.h"

namespace weft::kernels::cuda {
namespace {

/// Does `work` when the stream comes to it; each time, where it is captured.
void enqueue(std::function<void()> work) {
  cudaStreamCaptureStatus capture = cudaStreamCaptureStatusNone;
  check(cudaStreamIsCapturing(stream(), &capture), "cudaStreamIsCapturing");
  if (capture == cudaStreamCaptureStatusNone) {
    auto* once = new std::function<void()>(std::move(work));
    const auto run = [](void* data) {
      auto* f = static_cast<std::function<void()>*>(data);
      (*f)();
      delete f;
    };
    check(cudaLaunchHostFunc(stream(), run, once), "cudaLaunchHostFunc");
  } else {
    static std::deque<std::function<void()>> kept;  // as long as any graph may live
    kept.push_back(std::move(work));
    const auto run = [](void* data) { (*static_cast<std::function<void()>*>(data))(); };
    check(cudaLaunchHostFunc(stream(), run, &kept.back()), "cudaLaunchHostFunc");
  }
}

template <class T>
std::vector<float> to_float(const T* x, int64_t n) {
  std::vector<float> y(static_cast<size_t>(n));
  for (int64_t i = 0; i < n; ++i) y[size_t(i)] = float(x[i]);
  return y;
}

template <class T>
void from_float(const std::vector<float>& x, T* y) {
  for (size_t i = 0; i < x.size(); ++i) y[i] = T(x[i]);
}

/// Elements from the first to the last of the matrices of a batch.
int64_t extent(int64_t rows, int64_t cols, int64_t ld, int64_t batch, int64_t stride) {
  return rows == 0 || cols == 0 || batch == 0 ? 0 : (batch - 1) * stride + (rows - 1) * ld + cols;
}

/// d = alpha op(a) op(b) (+ beta c if p.accumulate).
template <class T>
void product(const GemmParams& p, float alpha, const T* a, const T* b, float beta, const T* c, T* d) {
  if (p.m == 0 || p.n == 0 || p.batch == 0) return;  // a or b may be shorter than it says
  enqueue([=] {
    std::vector<float> fa = to_float(a, p.transpose_a ? extent(p.k, p.m, p.lda, p.batch, p.stride_a)
                                                      : extent(p.m, p.k, p.lda, p.batch, p.stride_a));
    const std::vector<float> fb = to_float(b, p.transpose_b ? extent(p.n, p.k, p.ldb, p.batch, p.stride_b)
                                                            : extent(p.k, p.n, p.ldb, p.batch, p.stride_b));
    std::vector<float> fc = to_float(c, extent(p.m, p.n, p.ldc, p.batch, p.stride_c));
    for (float& x : fa) x *= alpha;
    for (float& x : fc) x = beta == 0 ? 0 : x * beta;
    // With one c for all, one after the other: the CPU's threads would each add to it.
    GemmParams part = p;
    if (p.stride_c == 0) part.batch = 1;
    for (int64_t i = 0; i < p.batch; i += part.batch)
      cpu().gemm(part, fa.data() + i * p.stride_a, fb.data() + i * p.stride_b, fc.data());
    for (int64_t i = 0; i < p.batch; ++i)  // not what lies between the rows
      for (int64_t row = 0; row < p.m; ++row)
        for (int64_t col = 0; col < p.n; ++col) {
          const int64_t at = i * p.stride_c + row * p.ldc + col;
          d[at] = T(fc[size_t(at)]);
        }
  });
}

/// One pass on copies in float; the output is what `output` points to, and is added to where `add` says so.
template <class T>
void convolution(ConvPass pass, const Conv2dParams& p, const T* x, const T* w, const T* y, T* output,
                 bool add = false) {
  enqueue([=] {
    const int64_t nx = p.batch * p.in_h * p.in_w * p.in_c, ny = p.batch * p.out_h() * p.out_w() * p.out_c,
                  nw = p.out_c * p.kernel_h * p.kernel_w * (p.in_c / p.groups);
    const int64_t sizes[] = {ny, nx, nw};  // of the output, by pass
    std::vector<float> fx(static_cast<size_t>(nx)), fw(static_cast<size_t>(nw)), fy(static_cast<size_t>(ny));
    if (pass != ConvPass::backward_input) fx = to_float(x, nx);
    if (pass != ConvPass::backward_weight) fw = to_float(w, nw);
    if (pass != ConvPass::forward) fy = to_float(y, ny);
    struct alignas(64) Line {
      char bytes[64];
    };
    if (p.multiply_adds() == 0) {
      std::fill_n(output, sizes[int(pass)], T(0.0f));
      return;
    }
    std::vector<Line> workspace(size_t(cpu().conv2d_workspace(p, pass)) / sizeof(Line) + 1);
    switch (pass) {
      case ConvPass::forward:
        cpu().conv2d_forward(p, fx.data(), fw.data(), nullptr, fy.data(), workspace.data());
        return from_float(fy, output);
      case ConvPass::backward_input:
        cpu().conv2d_backward_input(p, fy.data(), fw.data(), fx.data(), workspace.data());
        for (int64_t i = 0; i < nx && add; ++i) fx[size_t(i)] += float(output[i]);
        return from_float(fx, output);
      case ConvPass::backward_weight:
        cpu().conv2d_backward_weight(p, fx.data(), fy.data(), fw.data(), workspace.data());
        return from_float(fw, output);
    }
  });
}

template <class T>
void conv2d_forward(const Conv2dParams& p, const T* x, const T* w, const T* bias, T* y, void*) {
  convolution<T>(ConvPass::forward, p, x, w, nullptr, y);
  if (bias) add_bias(p.batch * p.out_h() * p.out_w(), p.out_c, bias, y);
}

template <class T>
void conv2d_backward_input(const Conv2dParams& p, const T* dy, const T* w, T* dx, void*) {
  convolution<T>(ConvPass::backward_input, p, nullptr, w, dy, dx);
}

/// As if cuDNN had no plan for groups.
template <class T>
bool conv2d_backward_input_add(const Conv2dParams& p, const T* dy, const T* w, T* dx, void*) {
  if (p.groups > 1) return false;
  convolution<T>(ConvPass::backward_input, p, nullptr, w, dy, dx, true);
  return true;
}

template <class T>
void conv2d_backward_weight(const Conv2dParams& p, const T* x, const T* dy, T* dw, void*) {
  convolution<T>(ConvPass::backward_weight, p, x, nullptr, dy, dw);
}

}  // namespace

void replace_memsets(cudaGraph_t, cudaStream_t) {}  // there are none

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

template <class T>
void set_conv2d(KernelTable<T>& table) {
  table.conv2d_algorithm = [](const Conv2dParams&, ConvPass) { return ConvAlgorithm::direct; };
  table.conv2d_workspace = [](const Conv2dParams&, ConvPass) { return int64_t{0}; };
  table.conv2d_forward = conv2d_forward<T>;
  table.conv2d_forward_stats = [](const Conv2dParams& p, const T* x, const T* w, const T* bias, T* y,
                                  float* mean, float* var, void*) {
    if constexpr (sizeof(T) == 2) {
      if (bias || !has_conv_stats<T>(p)) return false;
      conv_stats(p, x, w, y, mean, var);
      return true;
    }
    return false;
  };
  table.conv2d_backward_input = conv2d_backward_input<T>;
  table.conv2d_backward_input_add = conv2d_backward_input_add<T>;
  table.conv2d_backward_weight = conv2d_backward_weight<T>;
}

template void set_gemm(KernelTable<float>&);
template void set_gemm(KernelTable<bf16>&);
template void set_gemm(KernelTable<f16>&);
template void set_conv2d(KernelTable<float>&);
template void set_conv2d(KernelTable<bf16>&);
template void set_conv2d(KernelTable<f16>&);

}  // namespace weft::kernels::cuda
