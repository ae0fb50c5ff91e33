// Batches for training and evaluation on the CPU or a GPU, behind one interface: data::GpuLoader's.
#pragma once

#include <memory>

#include "weft/engine/data/gpu_loader.h"

namespace weft::app {

/// The batches of `dataset` on `device`, images of `options.dtype`. Mixup as GpuOptions says, on the CPU too.
std::unique_ptr<data::GpuLoader> make_batches(const data::ImageDataset& dataset,
                                              const data::LoaderOptions& options, Device device,
                                              const data::GpuOptions& gpu);

}  // namespace weft::app
