// Shared by the op files; not part of the public API.
#pragma once

#include "weft/engine/dispatch.h"
#include "weft/engine/tape.h"

namespace weft::ops {

/// An uninitialised tensor of x's shape and dtype.
inline Tensor empty_like(const Tensor& x) { return Tensor::empty(x.shape(), x.dtype()); }

/// Throws unless both have one dtype.
inline void check_same_dtype(const char* op, const Tensor& a, const Tensor& b) {
  check(a.dtype() == b.dtype(), op, ": operands are ", a.dtype(), " ", a.shape(), " and ", b.dtype(), " ",
        b.shape(), "; convert one with .to()");
}

/// The gradient of a broadcast operand: g summed over the dimensions in which `shape` was stretched.
Tensor sum_to(const Tensor& g, const Shape& shape);

}  // namespace weft::ops
