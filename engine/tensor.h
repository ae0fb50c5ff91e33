// Tensor: a shared handle on dense row-major memory with a dtype, a shape and a device. There are no strides:
// reshape, view and part share the storage, everything else that rearranges copies.
#pragma once

#include <initializer_list>
#include <memory>
#include <string>
#include <vector>

#include "weft/engine/allocator.h"
#include "weft/engine/device.h"
#include "weft/engine/dtype.h"
#include "weft/engine/random.h"
#include "weft/engine/shape.h"

namespace weft {

struct Variable;  // a tensor's place in a gradient computation, see tape.h

/// Copies of a Tensor are the same tensor. A default-constructed one is undefined: it has no memory
/// (defined() is false).
class Tensor {
 public:
  Tensor() = default;

  // --- making one ---
  /// Uninitialised memory.
  static Tensor empty(const Shape& shape, DType dtype = DType::f32, Device device = Device::cpu);
  static Tensor zeros(const Shape& shape, DType dtype = DType::f32, Device device = Device::cpu) {
    return full(shape, 0, dtype, device);
  }
  static Tensor ones(const Shape& shape, DType dtype = DType::f32, Device device = Device::cpu) {
    return full(shape, 1, dtype, device);
  }
  static Tensor full(const Shape& shape, double value, DType dtype = DType::f32, Device device = Device::cpu);
  static Tensor scalar(double value, DType dtype = DType::f32, Device device = Device::cpu) {
    return full({}, value, dtype, device);
  }
  /// start, start + step, ... up to what comes before end: [ceil((end - start) / step)].
  static Tensor arange(double start, double end, double step = 1, DType dtype = DType::f32,
                       Device device = Device::cpu);
  /// Takes the values in row-major order; their number must be that of the shape.
  template <class T>
  static Tensor from(const std::vector<T>& values, const Shape& shape);
  template <class T>
  static Tensor from(std::initializer_list<T> values, const Shape& shape) {
    return from(std::vector<T>(values), shape);
  }
  /// Uniform in [low, high).
  static Tensor uniform(const Shape& shape, double low, double high,
                        Generator& generator = default_generator(), DType dtype = DType::f32);
  /// Normal with the given mean and standard deviation (Box-Muller).
  static Tensor normal(const Shape& shape, double mean = 0, double std = 1,
                       Generator& generator = default_generator(), DType dtype = DType::f32);

  // --- looking at it ---
  bool defined() const { return impl_ != nullptr; }
  const Shape& shape() const { return impl().shape; }
  int ndim() const { return shape().ndim(); }
  /// Size of dimension i; negative i counts from the end.
  int64_t size(int i) const { return shape()[i]; }
  int64_t numel() const { return impl().numel; }
  DType dtype() const { return impl().dtype; }
  Device device() const { return impl().storage->device(); }
  int64_t bytes() const { return numel() * size_of(dtype()); }
  /// The elements, in row-major order; memory that only kernels can read where the device is a GPU. Throws if
  /// T is not the dtype.
  template <class T>
  T* data() const {
    require_dtype(dtype_of<T>());
    return static_cast<T*>(raw());
  }
  void* raw() const { return static_cast<char*>(impl().storage->data()) + impl().offset; }
  /// The only element, as a double. Throws if there are more. On a GPU this, at() and to_vector() wait for
  /// all work before.
  double item() const;
  /// The element at a flat row-major index, as a double.
  double at(int64_t index) const;
  template <class T>
  std::vector<T> to_vector() const {
    std::vector<T> values(static_cast<size_t>(numel()));
    require_dtype(dtype_of<T>());
    copy_to_host(values.data());
    return values;
  }
  /// "f32 [2, 3] {0.5, 1, ...}" with at most `limit` elements.
  std::string to_string(int64_t limit = 8) const;
  /// True where both are the same tensor (not: have equal values).
  bool is(const Tensor& other) const { return impl_ == other.impl_; }

  // --- plain data movement, never recorded ---
  /// A copy with memory of its own.
  Tensor clone() const;
  /// Overwrites the elements with those of `source` (same shape; converts between dtypes and devices).
  void copy_from(const Tensor& source) const;
  void fill(double value) const;
  /// A copy converted to `dtype`, or this tensor if it has that dtype already.
  Tensor to(DType dtype) const;
  /// A copy on `device`, or this tensor if it is there already.
  Tensor to(Device device) const;
  /// Makes this tensor, through all its handles, have the memory, shape and dtype of `other`.
  void set_data(const Tensor& other) const;
  /// The same memory with another shape, cut off from the tape (reshape in ops/shape.h is the recorded form).
  Tensor view(const Shape& shape) const;
  /// The elements from `first` on that fill the shape: the same memory, cut off from the tape.
  Tensor part(int64_t first, const Shape& shape) const;
  /// The same memory, cut off from the tape: a constant to further ops.
  Tensor detach() const { return view(shape()); }

  // --- gradients ---
  /// True for a parameter, and for what was computed from one under a tape.
  bool requires_grad() const;
  /// Makes this tensor a leaf whose gradient backward() computes. Only floating types.
  const Tensor& set_requires_grad(bool on = true) const;
  /// What backward() added up; undefined before the first backward and after zero_grad().
  const Tensor& grad() const;
  void set_grad(Tensor grad) const;
  void zero_grad() const { set_grad({}); }

  // --- for the tape ---
  const std::shared_ptr<Variable>& variable() const { return impl().variable; }
  void set_variable(std::shared_ptr<Variable> v) const { impl().variable = std::move(v); }
  /// For who changes the elements in place, through whatever handle or view: a backward pass that needs those
  /// of before throws then, and a PackedWeight is made anew.
  void count_change() const { impl().storage->count_change(); }
  /// The elements as they are now, to ask later whether they have been changed since; keeps none of them. Of
  /// a tensor that nobody has any more nothing has changed.
  class Moment;
  /// True where no other handle and no other tensor shares this memory.
  bool unique() const { return impl_.use_count() == 1 && impl_->storage.use_count() == 1; }

 private:
  struct Impl {
    std::shared_ptr<Storage> storage;
    int64_t offset = 0;  // in bytes
    Shape shape;
    int64_t numel = 0;
    DType dtype = DType::f32;
    std::shared_ptr<Variable> variable;
  };
  Impl& impl() const {
    if (!impl_) [[unlikely]]
      fail("tensor: this tensor is undefined (default-constructed or moved from)");
    return *impl_;
  }
  void require_dtype(DType wanted) const;
  void copy_to_host(void* to) const;

  std::shared_ptr<Impl> impl_;
};

class Tensor::Moment {
 public:
  Moment() = default;
  explicit Moment(const Tensor& t)
      : handle_(t.impl_), storage_(t.impl().storage), version_(t.impl().storage->version()) {}
  bool has_passed() const;
  /// Whether it is one of the same elements, which nobody has counted a change of in between.
  bool operator==(const Moment& other) const;

 private:
  std::weak_ptr<const Impl> handle_;
  std::weak_ptr<const Storage> storage_;
  int64_t version_ = 0;
};

std::ostream& operator<<(std::ostream& out, const Tensor& t);

template <class T>
Tensor Tensor::from(const std::vector<T>& values, const Shape& shape) {
  check(int64_t(values.size()) == shape.numel(), "Tensor::from: ", values.size(), " values for shape ", shape,
        ", which has ", shape.numel());
  Tensor t = empty(shape, dtype_of<T>());
  std::copy(values.begin(), values.end(), t.data<T>());
  return t;
}

}  // namespace weft
