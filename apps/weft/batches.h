// Batches for training and evaluation on the CPU or a GPU, behind one interface: data::BatchLoader's.
#pragma once

#include <memory>

#include "weft/engine/data/batch_loader.h"

namespace weft::app {

/// The batches of `dataset` on `device`, images of `options.dtype`. Mixup as BatchOptions says, on the CPU
/// too.
std::unique_ptr<data::BatchLoader> make_batches(const data::ImageDataset& dataset,
                                                const data::LoaderOptions& options, Device device,
                                                const data::BatchOptions& gpu);

}  // namespace weft::app
