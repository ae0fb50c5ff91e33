// How exactly products of f32 matrices and convolutions in f32 are computed.
#pragma once

#include <cstdint>
#include <optional>

namespace weft {

/// What matrix products and convolutions of f32 tensors may round their operands to; sums, and all else, stay
/// f32. A permission: where the device multiplies nothing faster that way, nothing is rounded. The names and
/// meanings are those of PyTorch's set_float32_matmul_precision().
enum class MatmulPrecision : uint8_t {
  highest,  ///< nothing is rounded
  high,     ///< to TF32, 10 bits of mantissa: on an NVIDIA GPU
  medium,   ///< to bf16, 7 bits of mantissa: on x86 with AVX-512 BF16, twice as fast; on a GPU as `high`
};

/// The precision of all products from now on. Default: high. Not to be changed while another thread computes.
void set_float32_matmul_precision(MatmulPrecision precision);
/// The precision of products that this thread starts.
MatmulPrecision float32_matmul_precision();

/// Whether that lets products on the CPU round to bf16.
inline bool may_round_to_bf16() { return float32_matmul_precision() == MatmulPrecision::medium; }

/// Another precision for the products that this thread starts, as long as it lives.
class MatmulPrecisionScope {
 public:
  explicit MatmulPrecisionScope(MatmulPrecision precision);
  ~MatmulPrecisionScope();
  MatmulPrecisionScope(const MatmulPrecisionScope&) = delete;
  MatmulPrecisionScope& operator=(const MatmulPrecisionScope&) = delete;

 private:
  std::optional<MatmulPrecision> before_;
};

/// Whether the CPU's kernels in use multiply bf16 faster than f32, so that MatmulPrecision::medium changes
/// what they do.
bool cpu_multiplies_bf16();

}  // namespace weft
