// Rows of a table by their index, and sums of rows back into it: a warp for each index.
#include <limits>
#include <type_traits>

#include "weft/kernels/cuda.h"
#include "weft/kernels/cuda/device.h"
#include "weft/kernels/cuda/families.h"
#include "weft/kernels/cuda/team.h"

namespace weft::kernels::cuda {
namespace {

using Warp = Team<false>;

template <class T, int V>
__global__ void __launch_bounds__(kThreads) forward_kernel(int64_t count, int64_t entries, int64_t width,
                                                           const T* table, const int64_t* index, T* y) {
  for (int64_t i = Warp::first_row(); i < count; i += Warp::rows_apart()) {
    const int64_t entry = index[i];
    const bool known = entry >= 0 && entry < entries;
    for_columns<Warp, V>(width, [&](int64_t c) {
      Pack<T, V> values;
#pragma unroll
      for (int j = 0; j < V; ++j) values.v[j] = T(std::numeric_limits<float>::quiet_NaN());
      if (known) values = load<V>(table + entry * width + c);
      store(y + i * width + c, values);
    });
  }
}

/// Which of the 32 indices from `first` on are `entry`, as bits; none before `from`.
__device__ inline unsigned equal_ones(int64_t first, int64_t from, int64_t count, const int64_t* index,
                                      int64_t entry) {
  const int64_t j = first + Warp::thread();
  return __ballot_sync(kAllLanes, j >= from && j < count && index[j] == entry);
}

// The warp of the first of equal indices adds up the rows of all of them, in their order.
template <class T, int V>
__global__ void __launch_bounds__(kThreads)
    backward_kernel(int64_t count, int64_t entries, int64_t width, const T* dy, const int64_t* index,
                    int64_t padding, T* dtable) {
  for (int64_t i = Warp::first_row(); i < count; i += Warp::rows_apart()) {
    const int64_t entry = index[i];
    if (entry < 0 || entry >= entries || entry == padding) continue;
    bool first = true;
    for (int64_t j = 0; first && j < i; j += kWarp) first = equal_ones(j, 0, i, index, entry) == 0;
    if (!first) continue;
    for (int64_t start = 0; start < width; start += kWarp * V) {
      const int64_t c = start + Warp::thread() * V;
      float sum[V] = {};
      for (int64_t j = i; j < count; j += kWarp)
        for (unsigned ones = equal_ones(j, i, count, index, entry); ones != 0; ones &= ones - 1) {
          const int64_t row = j + __ffs(int(ones)) - 1;
          if (c >= width) continue;
          float v[V];
          to_floats(load<V>(dy + row * width + c), v);
#pragma unroll
          for (int k = 0; k < V; ++k) sum[k] += v[k];
        }
      if (c < width) store(dtable + entry * width + c, from_floats<T>(sum));
    }
  }
}

/// Calls f(blocks, width of loads).
template <class T, class F>
void with_loads(int64_t count, int64_t width, std::initializer_list<const void*> pointers, F&& f) {
  const unsigned blocks = blocks_for(count, kWarps, 16 * int64_t(multiprocessors()));
  if (width % kWide<T> == 0 && aligned(pointers))
    f(blocks, std::integral_constant<int, kWide<T>>{});
  else
    f(blocks, std::integral_constant<int, 1>{});
}

template <class T>
void embedding_forward(int64_t count, int64_t entries, int64_t width, const T* table, const int64_t* index,
                       T* y) {
  if (count == 0 || width == 0) return;
  with_loads<T>(count, width, {table, y}, [&]<int V>(unsigned blocks, std::integral_constant<int, V>) {
    launch(forward_kernel<T, V>, blocks, kThreads, count, entries, width, table, index, y);
  });
}

template <class T>
void embedding_backward(int64_t count, int64_t entries, int64_t width, const T* dy, const int64_t* index,
                        int64_t padding, T* dtable) {
  if (entries == 0 || width == 0) return;
  const T zero(0.0f);
  fill(int(sizeof(T)), entries * width, &zero, dtable);
  if (count == 0) return;
  with_loads<T>(count, width, {dy, dtable}, [&]<int V>(unsigned blocks, std::integral_constant<int, V>) {
    launch(backward_kernel<T, V>, blocks, kThreads, count, entries, width, dy, index, padding, dtable);
  });
}

}  // namespace

template <class T>
void set_embedding(KernelTable<T>& table) {
  table.embedding_forward = embedding_forward<T>;
  table.embedding_backward = embedding_backward<T>;
}

template void set_embedding(KernelTable<float>&);
template void set_embedding(KernelTable<bf16>&);
template void set_embedding(KernelTable<f16>&);

}  // namespace weft::kernels::cuda
