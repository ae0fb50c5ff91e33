// Switches of the CUDA backend for the length of a test.
#pragma once

#include "weft/kernels/convolution.h"
#include "weft/kernels/cuda.h"
#include "weft/kernels/precision.h"

namespace weft::test {

/// Sums of floats are the plain ones, without TF32 and Winograd, for as long as this lives: for comparisons
/// of f32 between devices.
class ExactFloat {
 public:
  ExactFloat() {
    set_float32_matmul_precision(MatmulPrecision::highest);
    set_exact(true);
  }
  ~ExactFloat() {
    set_float32_matmul_precision(precision_);
    set_conv_algorithm(algorithm_);
  }
  ExactFloat(const ExactFloat&) = delete;
  ExactFloat& operator=(const ExactFloat&) = delete;

 private:
  const MatmulPrecision precision_ = float32_matmul_precision();
  const ConvAlgorithm algorithm_ = conv_algorithm();
};

/// The same bits each time, for as long as this lives: the convolutions that are measured to be the fastest
/// may sum in no fixed order.
class SameBits {
 public:
  SameBits() { kernels::cuda::set_deterministic(true); }
  ~SameBits() { kernels::cuda::set_deterministic(before_); }
  SameBits(const SameBits&) = delete;
  SameBits& operator=(const SameBits&) = delete;

 private:
  const bool before_ = kernels::cuda::deterministic();
};

}  // namespace weft::test
