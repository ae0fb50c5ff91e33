#include "weft/kernels/cuda/conv_patches.h"

#include <algorithm>

#include "weft/kernels/cuda.h"
#include "weft/kernels/cuda/conv_geometry.h"
#include "weft/kernels/cuda/convolution_kernels.h"
#include "weft/kernels/cuda/device.h"
#include "weft/kernels/cuda/wide.h"

namespace weft::kernels::cuda {
namespace {

constexpr int kBlock = 128, kRows = 4, kPack = 8, kMost = 64;

int64_t length_of(const Conv2dParams& p) { return (weights_of(p) + kPack - 1) / kPack * kPack; }
int64_t bytes_of(int64_t rows, int64_t length) { return (rows * length * 2 + 255) / 256 * 256; }

struct Geometry : RowGeometry {
  int OH, OW, rows;   // rows: of all outputs
  int packs, chunks;  // chunks: blocks side by side for a row of the output

  explicit Geometry(const Conv2dParams& p)
      : RowGeometry(p),
        OH(int(p.out_h())),
        OW(int(p.out_w())),
        rows(int(p.batch * p.out_h())),
        packs(int(length_of(p) / kPack)),
        chunks(int(blocks_for(int64_t(OW) * packs, kBlock))) {}
};

/// A thread makes the same 8 elements of the patches of pixels one below the other.
__global__ void __launch_bounds__(kBlock)
    patches_kernel(const Geometry g, const uint16_t* x, uint16_t* __restrict__ patches) {
  wait_for_earlier();
  __shared__ int downs[kMost], alongs[kMost];  // of an element of a patch: rows, and elements of a row
  const int length = g.packs * kPack;
  for (int k = int(threadIdx.x); k < length; k += kBlock) {
    const int tap = k / g.C;
    downs[k] = tap / g.kernel_w * g.dh;
    alongs[k] = tap % g.kernel_w * g.dw * g.C + k % g.C;
  }
  __syncthreads();
  const unsigned chunk = blockIdx.x % unsigned(g.chunks), item = chunk * kBlock + threadIdx.x;
  const int ow = int(item / unsigned(g.packs)), first = int(item % unsigned(g.packs)) * kPack;
  if (ow >= g.OW) return;
  const int start = ow * g.step - g.left;
  int place[kPack], down[kPack];
#pragma unroll
  for (int j = 0; j < kPack; ++j) {
    const int d = downs[first + j], along = alongs[first + j];
    const bool inside = first + j < g.weights && unsigned(start + along) < unsigned(g.row);
    place[j] = d * g.row + along;
    down[j] = inside ? d : 1 << 30;  // below all that there is
  }
  const int row = int(blockIdx.x / unsigned(g.chunks)) * kRows;
  int64_t image = row / g.OH;
  int oh = row - int(image) * g.OH;
  Pack<uint16_t, kPack> pack[kRows];
#pragma unroll
  for (int i = 0; i < kRows; ++i) {
    const int top = row + i < g.rows ? oh * g.sh - g.ph : 1 << 30;
    const uint16_t* from = x + (image * g.H + top) * g.row + start;
#pragma unroll
    for (int j = 0; j < kPack; ++j)
      pack[i].v[j] = unsigned(top) + unsigned(down[j]) < unsigned(g.H) ? from[place[j]] : uint16_t{0};
    if (++oh == g.OH) oh = 0, ++image;
  }
#pragma unroll
  for (int i = 0; i < kRows; ++i)
    if (row + i < g.rows) store(patches + (int64_t(row + i) * g.OW + ow) * length + first, pack[i]);
}

/// wide [rows, length] = w [rows, weights] and zeros.
__global__ void __launch_bounds__(kBlock)
    widen_kernel(int64_t rows, int weights, int length, const uint16_t* w, uint16_t* __restrict__ wide) {
  wait_for_earlier();
  const int64_t i = int64_t(blockIdx.x) * kBlock + threadIdx.x, row = i / length, k = i - row * length;
  if (row < rows) wide[i] = k < weights ? w[row * weights + k] : uint16_t{0};
}

}  // namespace

bool can_patch(ConvPass pass, const Conv2dParams& p) {
  const int64_t image = (p.in_h + 2 * p.pad_h) * (p.in_w + 2 * p.pad_w) * p.in_c;
  return pass != ConvPass::backward_input && p.groups == 1 && p.kernel_h * p.kernel_w > 1 &&
         weights_of(p) <= kMost && image < int64_t{1} << 29 && patches_bytes(p) < int64_t{1} << 31;
}

int64_t patches_bytes(const Conv2dParams& p) {
  return bytes_of(pixels_of(p), length_of(p)) + bytes_of(p.out_c, length_of(p));
}

void copy_patches(const Conv2dParams& p, const uint16_t* x, uint16_t* patches) {
  const Geometry g(p);
  launch_early(patches_kernel, dim3(blocks_for(g.rows, kRows) * unsigned(g.chunks)), dim3(kBlock), g, x,
               patches);
}

template <class T>
void patches_convolution(ConvPass pass, const Conv2dParams& p, const T* x, T* w, T* y, void* memory) {
  static_assert(sizeof(T) == 2);
  const int64_t pixels = pixels_of(p), K = length_of(p), weights = weights_of(p), O = p.out_c;
  auto* const patches = static_cast<T*>(memory);
  auto* const wide = reinterpret_cast<T*>(static_cast<char*>(memory) + bytes_of(pixels, K));
  const auto bits = [](auto* values) { return reinterpret_cast<uint16_t*>(const_cast<T*>(values)); };
  copy_patches(p, bits(x), bits(patches));
  if (pass == ConvPass::forward) {  // y [pixels, O] = patches w'
    launch_early(widen_kernel, blocks_for(O * K, kBlock), kBlock, O, int(weights), int(K), bits(w),
                 bits(wide));
    table<T>().gemm({.m = pixels, .n = O, .k = K, .transpose_b = true, .lda = K, .ldb = K, .ldc = O}, patches,
                    wide, y);
  } else {  // dw [O, K] = dy' patches
    table<T>().gemm({.m = O, .n = K, .k = pixels, .transpose_a = true, .lda = O, .ldb = K, .ldc = K}, y,
                    patches, wide);
    cut_channels(O, weights, K, bits(wide), bits(w));
  }
}

template void patches_convolution<bf16>(ConvPass, const Conv2dParams&, const bf16*, bf16*, bf16*, void*);
template void patches_convolution<f16>(ConvPass, const Conv2dParams&, const f16*, f16*, f16*, void*);

}  // namespace weft::kernels::cuda
