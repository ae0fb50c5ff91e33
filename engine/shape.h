#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <ostream>
#include <span>
#include <string>
#include <vector>

#include "weft/engine/error.h"

namespace weft {

class Shape;
std::ostream& operator<<(std::ostream& out, const Shape& s);

/// Sizes of a tensor's dimensions, at most 8. Shape{} is a scalar with one element.
class Shape {
 public:
  static constexpr int kMaxDims = 8;

  Shape() = default;
  Shape(std::initializer_list<int64_t> sizes) : Shape(std::span(sizes.begin(), sizes.size())) {}
  explicit Shape(std::span<const int64_t> sizes) {
    check(sizes.size() <= kMaxDims, "shape: ", sizes.size(), " dimensions, but at most ", kMaxDims,
          " are supported");
    for (int64_t s : sizes) push_back(s);
  }

  int ndim() const { return ndim_; }
  /// Size of dimension i; negative i counts from the end.
  int64_t operator[](int i) const { return sizes_[size_t(index(i))]; }
  /// The dimension that i names, i may be negative. Throws, naming the op that asks, if there is none.
  int index(int i, const char* op = "shape") const {
    check(i >= -ndim_ && i < ndim_, op, ": dimension ", i, " is out of range for shape ", *this);
    return i < 0 ? i + ndim_ : i;
  }
  void set(int i, int64_t size) {
    check(size >= 0, "shape: negative size ", size);
    sizes_[size_t(index(i))] = size;
  }
  void push_back(int64_t size) {
    check(ndim_ < kMaxDims, "shape: at most ", kMaxDims, " dimensions are supported");
    check(size >= 0, "shape: negative size ", size);
    sizes_[size_t(ndim_++)] = size;
  }
  /// Product of the sizes [from, to).
  int64_t numel(int from, int to) const {
    int64_t n = 1;
    for (int i = from; i < to; ++i)
      check(!__builtin_mul_overflow(n, sizes_[size_t(i)], &n), "shape: ", *this, " has too many elements");
    return n;
  }
  int64_t numel() const { return numel(0, ndim_); }

  const int64_t* begin() const { return sizes_.data(); }
  const int64_t* end() const { return sizes_.data() + ndim_; }
  bool operator==(const Shape&) const = default;
  /// For reshape(x, y.shape()), whose sizes may have a -1 that a Shape has not.
  operator std::vector<int64_t>() const { return {begin(), end()}; }

  /// "[64, 3, 3, 32]"
  std::string to_string() const {
    std::string s = "[";
    for (int i = 0; i < ndim_; ++i) s += (i ? ", " : "") + std::to_string(sizes_[size_t(i)]);
    return s + "]";
  }

 private:
  std::array<int64_t, kMaxDims> sizes_{};
  int ndim_ = 0;
};

inline std::ostream& operator<<(std::ostream& out, const Shape& s) { return out << s.to_string(); }

}  // namespace weft
