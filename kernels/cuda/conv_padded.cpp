#include "weft/kernels/cuda/conv_padded.h"

#include <array>

#include "weft/kernels/cuda/convolution_kernels.h"

namespace weft::kernels::cuda {
namespace {

constexpr int64_t kChannels = 8;

int64_t x_rows(const Conv2dParams& p) { return p.batch * p.in_h * p.in_w; }
int64_t w_rows(const Conv2dParams& p) { return p.out_c * p.kernel_h * p.kernel_w; }
int64_t bytes_of(int64_t rows) { return (rows * kChannels * 2 + 255) / 256 * 256; }

}  // namespace

bool can_pad(const ConvKey& key) {
  return key.type != CUDNN_DATA_FLOAT && key.pass != ConvPass::backward_input && key.params.groups == 1 &&
         key.params.in_c < kChannels;
}

ConvKey padded_key(ConvKey key) {
  key.params.in_c = kChannels;
  return key;
}

int64_t padded_bytes(const Conv2dParams& p) { return bytes_of(x_rows(p)) + bytes_of(w_rows(p)); }

void execute_padded(cudnnHandle_t handle, const ConvKey& key, const cudnn::Plan& plan, void* x, void* w,
                    void* y, void* memory) {
  const Conv2dParams& p = key.params;
  const bool forward = key.pass == ConvPass::forward;
  auto* const bytes = static_cast<char*>(memory);
  void *const wide_x = bytes, *const wide_w = bytes + bytes_of(x_rows(p));
  pad_channels(x_rows(p), p.in_c, static_cast<const uint16_t*>(x), static_cast<uint16_t*>(wide_x));
  if (forward)
    pad_channels(w_rows(p), p.in_c, static_cast<const uint16_t*>(w), static_cast<uint16_t*>(wide_w));
  plan.execute(handle, std::array<int64_t, 3>{kConvX, kConvW, kConvY}, std::array{wide_x, wide_w, y},
               bytes + padded_bytes(p));
  if (!forward)
    cut_channels(w_rows(p), p.in_c, kChannels, static_cast<const uint16_t*>(wide_w),
                 static_cast<uint16_t*>(w));
}

}  // namespace weft::kernels::cuda
