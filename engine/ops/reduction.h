// What becomes of the losses of single elements.
#pragma once

#include <cstdint>

namespace weft {

/// How a loss is made one number. `batchmean` is the sum over the size of the first dimension, which is what
/// the Kullback-Leibler divergence of a batch of distributions is the mean of.
enum class Reduction : uint8_t { mean, sum, none, batchmean };

}  // namespace weft
