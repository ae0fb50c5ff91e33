// What the BatchLoaders share; not part of the public API.
#pragma once

#include <vector>

#include "weft/engine/data/batch_loader.h"
#include "weft/engine/error.h"

namespace weft::kernels::cuda {
struct MixView;
}

namespace weft::data {

void check_options(const BatchOptions& gpu);

/// The CPU's, for make_batches().
std::unique_ptr<BatchLoader> make_cpu_batches(const ImageDataset& dataset, const LoaderOptions& options,
                                              const BatchOptions& batch_options);

/// Tensors on the GPU for n pictures.
DeviceBatch empty_batch(const LoaderOptions& options, const BatchOptions& gpu, int64_t classes, int64_t n);

/// What gpu.mixup says of a batch of n pictures of `side` pixels squared, checked.
std::vector<Mix> decide_mix(const BatchOptions& gpu, int64_t epoch, int64_t batch, int64_t n, int side);
/// The same for kernels.
kernels::cuda::MixView view_of(const Mix& mix);

/// Calls body(T*) with the memory of images of f32, bf16 or f16.
template <class Body>
void with_images(const Tensor& images, Body&& body) {
  if (images.dtype() == DType::f32)
    body(images.data<float>());
  else if (images.dtype() == DType::bf16)
    body(images.data<bf16>());
  else
    body(images.data<f16>());
}

}  // namespace weft::data
