// Comparisons, and what chooses by them or by bounds; and powers with a number. The names and values are
// PyTorch's.
#pragma once

#include "weft/engine/tensor.h"

namespace weft {

/// 1 where a == b (!=, <, <=, >, >=), else 0, as u8, with broadcasting: no gradient passes. NaN is unequal to
/// all, itself included. Both have one dtype, a floating one; on the CPU it may be i64 or u8, too.
Tensor eq(const Tensor& a, const Tensor& b);
Tensor ne(const Tensor& a, const Tensor& b);
Tensor lt(const Tensor& a, const Tensor& b);
Tensor le(const Tensor& a, const Tensor& b);
Tensor gt(const Tensor& a, const Tensor& b);
Tensor ge(const Tensor& a, const Tensor& b);
/// The same with a number, which is rounded to the dtype of a if that is a floating one.
Tensor eq(const Tensor& a, double b);
Tensor ne(const Tensor& a, double b);
Tensor lt(const Tensor& a, double b);
Tensor le(const Tensor& a, double b);
Tensor gt(const Tensor& a, double b);
Tensor ge(const Tensor& a, double b);

/// a where the condition (u8) is not 0, else b; the three are broadcast. The gradient goes to the one that
/// was chosen; the other's is 0, even where what comes is infinite or NaN. So it also keeps a backward out of
/// places where an op has no finite slope: where(gt(x, 0), log(where(gt(x, 0), x, 1)), 0). On the CPU a and b
/// may be i64 or u8, too; a number must then be one that the type holds.
Tensor where(const Tensor& condition, const Tensor& a, const Tensor& b);
Tensor where(const Tensor& condition, const Tensor& a, double b);
Tensor where(const Tensor& condition, double a, const Tensor& b);
/// x with `value` where the mask (u8, broadcast to x's shape) is not 0; no gradient passes there. Whole
/// numbers as for where(): masked_fill(labels, padding, -100).
Tensor masked_fill(const Tensor& x, const Tensor& mask, double value);

/// x, but no less than min and no more than max (either may be infinite); max everywhere if min > max. NaN
/// stays. Slope 1 between the bounds and at them, else 0.
Tensor clamp(const Tensor& x, double min, double max);

/// x^exponent. 1 where the exponent is 0, and NaN where x < 0 and the exponent is not whole; as in PyTorch
/// 0.5 is sqrt(x), and -0.5, -1 and -2 are reciprocals. Slope exponent x^(exponent - 1), 0 for an exponent of
/// 0.
Tensor pow(const Tensor& x, double exponent);

}  // namespace weft
