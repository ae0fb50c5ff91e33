// Shared by the op files; not part of the public API.
#pragma once

#include "weft/engine/dispatch.h"
#include "weft/engine/tape.h"
#include "weft/engine/weight_copies.h"
#include "weft/kernels/precision.h"

namespace weft::ops {

/// An uninitialised tensor of x's shape and dtype.
inline Tensor empty_like(const Tensor& x) { return Tensor::empty(x.shape(), x.dtype(), x.device()); }
/// An uninitialised tensor of x's dtype and device.
inline Tensor empty(const Shape& shape, const Tensor& x) {
  return Tensor::empty(shape, x.dtype(), x.device());
}

/// Throws unless both lie on one device.
inline void check_same_device(const char* op, const Tensor& a, const Tensor& b) {
  check(a.device() == b.device(), op, ": operands are ", a.dtype(), " ", a.shape(), " on ", a.device(),
        " and ", b.dtype(), " ", b.shape(), " on ", b.device(), "; move one with .to(Device::", a.device(),
        ")");
}
/// Throws unless both have one dtype and lie on one device.
inline void check_same_dtype(const char* op, const Tensor& a, const Tensor& b) {
  check(a.dtype() == b.dtype(), op, ": operands are ", a.dtype(), " ", a.shape(), " and ", b.dtype(), " ",
        b.shape(), "; convert one with .to()");
  check_same_device(op, a, b);
}

/// Whether products of tensors like x may round to bf16 on the CPU.
inline bool rounds_to_bf16(const Tensor& x) {
  return x.dtype() == DType::f32 && x.device() == Device::cpu && may_round_to_bf16();
}

/// The shape that a and b broadcast to; throws where they do not.
Shape broadcast_shape(const char* op, const Shape& a, const Shape& b);
/// How to walk operands of these shapes over what they broadcast to. Dimensions that no operand breaks are
/// merged, so that most cases are 1-d or 2-d.
kernels::Broadcast broadcast(const Shape& out, const Shape& a, const Shape& b, const Shape& c = {});

/// What statistics and gradients of vectors are kept in beside activations of this dtype: f32 beside the
/// 16-bit types.
inline DType wide_dtype(DType t) { return is_half(t) ? DType::f32 : t; }
/// A parameter as an op on activations of `dtype` computes with it. In mixed precision parameters are f32,
/// activations bf16 or f16, and the op works in the activations' type. Throws where the two are another pair.
inline Tensor compute_copy(const char* op, const Tensor& parameter, const Tensor& x) {
  if (is_half(x.dtype()) && parameter.dtype() == DType::f32) {
    check_same_device(op, x, parameter);
    const Tensor copy = WeightCopies::find(parameter, x.dtype());
    return copy.defined() ? copy.view(parameter.shape()) : parameter.to(x.dtype());  // it may be a view
  }
  check_same_dtype(op, x, parameter);
  return parameter;
}

/// In a backward function: compute_copy(parameter) as forward has made it; a recorded one where backward is
/// recorded.
Tensor recorded_copy(const BackwardContext& c, const Tensor& parameter, const Tensor& copy);

/// In a backward function: calls add(sum) with what input i has been given so far, if that can be
/// overwritten; it adds the rest and returns true, or returns false and leaves the sum alone. False too where
/// there is no such sum: then the rest is to be set().
template <class Add>
bool added_in_place(BackwardContext& c, int i, Add&& add) {
  Tensor sum = c.take_sum(i);
  if (!sum.defined()) return false;
  const bool added = sum.unique() && add(sum);
  c.set(i, std::move(sum));
  return added;
}

// Recorded, as backward functions need it. What is taken by value may be handed over, so that the result is
// unique() where nobody else holds it:

/// x.view(shape).
Tensor view_as(Tensor x, const Shape& shape);
/// x in the middle of zeros: dimension d becomes `whole`, x lies from `start` on.
Tensor zeros_around(const char* name, const Tensor& x, int d, int64_t start, int64_t whole);
/// dy f'(x) of an activation f.
Tensor activation_backward(Activation act, double param, const Tensor& x, const Tensor& dy);
/// The gradient of a broadcast operand: g summed over the dimensions in which `shape` was stretched.
Tensor sum_to(Tensor g, const Shape& shape);
/// g, [.., 1, ..] in the dimensions that are stretched, times scale in `shape`. g may have its dimensions of
/// size 1 left out; `kept` is its shape with them.
Tensor stretch(const char* name, const Tensor& g, const Shape& kept, const Shape& shape, double scale = 1);

}  // namespace weft::ops
