// The one place where a tensor's dtype and device choose the kernels.
#pragma once

#include <utility>

#include "weft/engine/tensor.h"
#include "weft/kernels/cuda.h"
#include "weft/kernels/kernels.h"

namespace weft {

/// Calls body(table) with the KernelTable<T> for `t`; in it, T is the table's element type
/// (`kernel_type<decltype(k)>`).
template <class Body>
decltype(auto) dispatch(const char* op, const Tensor& t, Body&& body) {
  if (t.device() == Device::cuda) switch (t.dtype()) {
      case DType::f32:
        return std::forward<Body>(body)(kernels::cuda::table<float>());
      case DType::bf16:
        return std::forward<Body>(body)(kernels::cuda::table<bf16>());
      case DType::f16:
        return std::forward<Body>(body)(kernels::cuda::table<f16>());
      default:
        fail(op, ": dtype ", t.dtype(), " has no arithmetic on a GPU; convert with .to(DType::f32)");
    }
  switch (t.dtype()) {
    case DType::f32:
      return std::forward<Body>(body)(kernels::cpu());
    case DType::f64:
      return std::forward<Body>(body)(kernels::reference<double>());
    default:
      fail(op, ": dtype ", t.dtype(), " has no arithmetic on the CPU; convert with .to(DType::f32)");
  }
}

namespace detail {
template <class T>
T kernel_type(const kernels::KernelTable<T>&);
}
template <class Table>
using kernel_type = decltype(detail::kernel_type(std::declval<Table>()));
/// The type of the table's scalars and statistics.
template <class Table>
using wide_type = kernels::Wide<kernel_type<Table>>;

}  // namespace weft
