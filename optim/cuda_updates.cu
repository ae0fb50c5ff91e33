// The formulas of all optimizers on the GPU. CMake lists them (cmake/optimizers.cmake).
#include "weft/kernels/cuda/multi_tensor.cuh"
#include "weft/optim/optimizer_list.h"

namespace weft::kernels::cuda {
namespace {

struct Named {
  std::string_view name;
  UpdateKernels kernels;
};
template <class U>
constexpr Named named() {
  return {U::kName, update_kernels<U>()};
}
#define WEFT_NAMED(formula) named<optim::updates::formula<float>>(),
const Named kUpdates[] = {WEFT_FOR_EACH_FORMULA(WEFT_NAMED)};
#undef WEFT_NAMED

}  // namespace

const UpdateKernels* find_update(std::string_view name) {
  for (const Named& update : kUpdates)
    if (update.name == name) return &update.kernels;
  return nullptr;
}

}  // namespace weft::kernels::cuda
