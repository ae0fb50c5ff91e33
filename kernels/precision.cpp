#include "weft/kernels/precision.h"

#include <atomic>

#include "weft/kernels/kernels.h"

namespace weft {
namespace {

std::atomic<MatmulPrecision> of_process{MatmulPrecision::high};
thread_local std::optional<MatmulPrecision> of_thread;

}  // namespace

void set_float32_matmul_precision(MatmulPrecision precision) { of_process = precision; }
MatmulPrecision float32_matmul_precision() { return of_thread.value_or(of_process); }

MatmulPrecisionScope::MatmulPrecisionScope(MatmulPrecision precision) : before_(of_thread) {
  of_thread = precision;
}
MatmulPrecisionScope::~MatmulPrecisionScope() { of_thread = before_; }

bool cpu_multiplies_bf16() {
  const auto multiplies = kernels::cpu().multiplies_bf16;
  return multiplies && multiplies();
}

}  // namespace weft
