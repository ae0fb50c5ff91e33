// The one place where a tensor's dtype and device choose the kernels.
#pragma once

#include <utility>

#include "weft/engine/tensor.h"
#include "weft/kernels/kernels.h"

namespace weft {

/// Calls body(table) with the KernelTable<T> for `t`; in it, T is the table's element type
/// (`kernel_type<decltype(k)>`).
template <class Body>
decltype(auto) dispatch(const char* op, const Tensor& t, Body&& body) {
  switch (t.dtype()) {
    case DType::f32:
      return std::forward<Body>(body)(kernels::cpu());
    case DType::f64:
      return std::forward<Body>(body)(kernels::reference<double>());
    default:
      fail(op, ": dtype ", t.dtype(), " has no arithmetic; convert with .to(DType::f32)");
  }
}

namespace detail {
template <class T>
T kernel_type(const kernels::KernelTable<T>&);
}
template <class Table>
using kernel_type = decltype(detail::kernel_type(std::declval<Table>()));

}  // namespace weft
