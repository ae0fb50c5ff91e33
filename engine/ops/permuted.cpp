#include "weft/engine/ops/permuted.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "weft/engine/ops/helpers.h"
#include "weft/kernels/cuda.h"
#include "weft/kernels/parallel.h"

namespace weft::ops {
namespace {

/// A dimension of the copy: elements from one of its positions to the next in the source and in the copy.
struct Dim {
  int64_t size, from, to;
};

/// The copy's dimensions, without those of size 1; neighbours that are neighbours in the source too are one.
std::vector<Dim> dims_of(const Shape& shape, const std::array<int64_t, Shape::kMaxDims>& stride) {
  std::vector<Dim> dims;
  for (int d = 0; d < shape.ndim(); ++d) {
    const int64_t size = shape[d], from = stride[size_t(d)];
    if (size == 1) continue;
    if (!dims.empty() && dims.back().from == size * from)
      dims.back() = {dims.back().size * size, from, 0};
    else
      dims.push_back({size, from, 0});
  }
  if (dims.empty()) dims.push_back({1, 1, 1});
  int64_t step = 1;
  for (size_t d = dims.size(); d-- > 0; step *= dims[d].size) dims[d].to = step;
  return dims;
}

int64_t positions(const std::vector<Dim>& dims) {
  int64_t n = 1;
  for (const Dim& d : dims) n *= d.size;
  return n;
}

/// Steps through all positions of some dimensions, the last one fastest.
class Odometer {
 public:
  Odometer(const std::vector<Dim>& dims, int64_t position) : dims_(dims) {
    for (size_t d = dims.size(); d-- > 0; position /= dims[d].size) {
      at_[d] = position % dims[d].size;
      from += at_[d] * dims[d].from, to += at_[d] * dims[d].to;
    }
  }
  void next() {
    for (size_t d = dims_.size(); d-- > 0;) {
      from += dims_[d].from, to += dims_[d].to;
      if (++at_[d] < dims_[d].size) return;
      from -= dims_[d].size * dims_[d].from, to -= dims_[d].size * dims_[d].to;
      at_[d] = 0;
    }
  }
  int64_t from = 0, to = 0;

 private:
  const std::vector<Dim>& dims_;
  std::array<int64_t, Shape::kMaxDims> at_{};
};

/// to[r][c] = from[c][r] for some rows of the copy, in blocks that a cache line of each side serves.
template <class T>
void transpose(const T* from, int64_t from_step, T* to, int64_t to_step, int64_t rows, int64_t columns) {
  constexpr int64_t kBlock = 16;
  for (int64_t first = 0; first < columns; first += kBlock) {
    const int64_t last = std::min(columns, first + kBlock);
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t c = first; c < last; ++c)
        std::memcpy(to + r * to_step + c, from + c * from_step + r, sizeof(T));
  }
}

template <class T>
void copy(std::vector<Dim> dims, const T* from, T* to) {
  constexpr int64_t kGrain = 8192, kRows = 16;
  const Dim last = dims.back();
  dims.pop_back();
  if (last.from == 1) {
    kernels::parallel_ranges(positions(dims), 1 + kGrain / last.size, [&](int64_t begin, int64_t end) {
      Odometer at(dims, begin);
      for (int64_t i = begin; i < end; ++i, at.next())
        std::memcpy(to + at.to, from + at.from, size_t(last.size) * sizeof(T));
    });
    return;
  }
  // What lies densely in the source is another dimension: a plane of it and the last is transposed, some of
  // its rows at a time.
  const auto dense = std::find_if(dims.begin(), dims.end(), [](const Dim& d) { return d.from == 1; });
  const Dim row = *dense;
  dims.erase(dense);
  const int64_t blocks = (row.size + kRows - 1) / kRows;
  kernels::parallel_ranges(positions(dims) * blocks, 1 + kGrain / (kRows * last.size),
                           [&](int64_t begin, int64_t end) {
                             Odometer at(dims, begin / blocks);
                             for (int64_t i = begin; i < end; ++i) {
                               const int64_t first = i % blocks * kRows;
                               transpose(from + at.from + first, last.from, to + at.to + first * row.to,
                                         row.to, std::min(kRows, row.size - first), last.size);
                               if (i % blocks == blocks - 1) at.next();
                             }
                           });
}

}  // namespace

Tensor permuted(const Tensor& x, const std::vector<int>& order) {
  const int n = x.ndim();
  Shape shape;
  std::array<int64_t, Shape::kMaxDims> stride{};
  for (int d : order) {
    shape.push_back(x.size(d));
    stride[size_t(shape.ndim() - 1)] = x.shape().numel(x.shape().index(d) + 1, n);
  }
  Tensor y = ops::empty(shape, x);
  if (y.numel() == 0) return y;
  if (x.device() == Device::cuda) {
    std::array<int64_t, Shape::kMaxDims> size{1};
    for (int d = 0; d < n; ++d) size[size_t(d)] = shape[d];
    kernels::cuda::permute(int(size_of(x.dtype())), std::max(n, 1), size.data(), stride.data(), x.raw(),
                           y.raw());
    return y;
  }
  const auto as = [&]<class T>(T) {
    copy(dims_of(shape, stride), static_cast<const T*>(x.raw()), static_cast<T*>(y.raw()));
  };
  switch (size_of(x.dtype())) {
    case 1:
      as(uint8_t());
      break;
    case 2:
      as(uint16_t());
      break;
    case 4:
      as(uint32_t());
      break;
    default:
      as(uint64_t());
  }
  return y;
}

}  // namespace weft::ops
