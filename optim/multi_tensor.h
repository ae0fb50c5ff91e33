// The one pass over all parameters of a group that every optimizer's step is made of.
//
// Tensors are cut into chunks of a fixed size, so that neither the result nor the order of a sum depends on
// the number of threads, and many small tensors and one large one keep all threads equally busy.
#pragma once

#include <array>
#include <optional>
#include <vector>

#include "weft/kernels/parallel.h"
#include "weft/optim/optimizer.h"

namespace weft::optim {

/// Elements of a chunk. Parameter, gradient and two moments in f32 are 256 KiB: they stay in the L2 cache
/// between the loops over one chunk.
constexpr int64_t kChunkSize = 16384;

/// Appends the chunks of a tensor with n elements.
inline void cut(size_t entry, int64_t n, std::vector<ChunkRange>& chunks) {
  for (int64_t begin = 0; begin < n; begin += kChunkSize)
    chunks.push_back({entry, begin, begin + kChunkSize < n ? begin + kChunkSize : n});
}

/// Elements whose squares are summed in their own type before the sum joins a total in double: their rounding
/// errors are far below that of one element.
constexpr int64_t kSumBlock = 512;

/// The sum of squares of at most kSumBlock elements, in a fixed order that leaves the compiler whole vectors.
template <class T>
double block_squares(int64_t n, const T* x) {
  constexpr int kLanes = 32;
  T lane[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes)
    for (int j = 0; j < kLanes; ++j) lane[j] += x[i + j] * x[i + j];
  for (int j = 0; i < n; ++i, ++j) lane[j] += x[i] * x[i];
  for (int step = kLanes / 2; step > 0; step /= 2)
    for (int j = 0; j < step; ++j) lane[j] += lane[j + step];
  // Squares that leave the range of float are taken again in double.
  if (sizeof(T) < sizeof(double) && !(lane[0] > T(1e-25) && lane[0] < T(1e30))) {
    double sum = 0;
    for (i = 0; i < n; ++i) sum += double(x[i]) * double(x[i]);
    return sum;
  }
  return double(lane[0]);
}

/// The sum of squares of n elements.
template <class T>
double sum_squares(int64_t n, const T* x) {
  double sum = 0;
  for (int64_t i = 0; i < n; i += kSumBlock)
    sum += block_squares(n - i < kSumBlock ? n - i : kSumBlock, x + i);
  return sum;
}

/// Memory of one chunk.
template <class T>
struct Chunk {
  static constexpr size_t kMaxSlots = 2;
  int64_t n = 0;
  T* p = nullptr;                     // parameter
  const T* g = nullptr;               // gradient
  std::array<T*, kMaxSlots> state{};  // the group's slots, in order; null where the slot is a scalar
};

/// Walks the parameters of a group that have a gradient.
class MultiTensor {
 public:
  using Entry = Optimizer::Entry;
  using Group = Optimizer::Group;

  /// What an optimizer computed for each parameter of the group; empty where there is no gradient.
  template <class Work>
  using PerEntry = std::vector<std::optional<Work>>;

  /// Counts an update of each parameter that has a gradient and calls make(entry, t), t its number of
  /// updates, this one included. Serial: for the scalars of a formula.
  template <class Make>
  static auto prepare(Group& group, Make&& make) {
    PerEntry<decltype(make(group.entries[0], int64_t{}))> work(group.entries.size());
    for (size_t i = 0; i < work.size(); ++i) {
      Entry& entry = group.entries[i];
      if (entry.param.tensor.grad().defined()) work[i] = make(entry, ++*entry.updates.data<int64_t>());
    }
    return work;
  }

  /// Runs work(chunk) on every chunk of every parameter that has work.
  template <class Work>
  static void apply(const Group& group, const PerEntry<Work>& work) {
    kernels::parallel_for(int64_t(group.chunks.size()), [&](int64_t c) {
      const ChunkRange& range = group.chunks[size_t(c)];
      if (work[range.entry]) on_chunk(group.entries[range.entry], range, *work[range.entry]);
    });
  }

  /// The sums over each parameter of what work(chunk) returns, an array of N doubles; summed in the order of
  /// the chunks.
  template <size_t N, class Work>
  static std::vector<std::array<double, N>> reduce(const Group& group, const PerEntry<Work>& work) {
    std::vector<std::array<double, N>> partial(group.chunks.size()), sums(group.entries.size());
    kernels::parallel_for(int64_t(group.chunks.size()), [&](int64_t c) {
      const ChunkRange& range = group.chunks[size_t(c)];
      if (work[range.entry])
        partial[size_t(c)] = on_chunk(group.entries[range.entry], range, *work[range.entry]);
    });
    for (size_t c = 0; c < partial.size(); ++c)
      for (size_t k = 0; k < N; ++k) sums[group.chunks[c].entry][k] += partial[c][k];
    return sums;
  }

 private:
  template <class Work>
  static auto on_chunk(const Entry& entry, const ChunkRange& range, const Work& work) {
    return entry.dtype == DType::f32 ? work(chunk<float>(entry, range)) : work(chunk<double>(entry, range));
  }

  template <class T>
  static Chunk<T> chunk(const Entry& entry, const ChunkRange& range) {
    const Tensor& p = entry.param.tensor;
    Chunk<T> c{range.end - range.begin, p.data<T>() + range.begin, p.grad().data<T>() + range.begin, {}};
    for (size_t s = 0; s < entry.state.size(); ++s)
      if (entry.state[s].ndim() == p.ndim() && entry.state[s].dtype() == p.dtype())
        c.state[s] = entry.state[s].data<T>() + range.begin;
    return c;
  }
};

}  // namespace weft::optim
