// What an index names, and sums back to where it came from.
#include <limits>
#include <string>

#include "weft/kernels/cuda.h"
#include "weft/kernels/cuda/families.h"
#include "weft/kernels/cuda/sort.h"
#include "weft/kernels/cuda/wide.h"

namespace weft::kernels::cuda {
namespace {

constexpr int kBlock = 256;

/// Whether V neighbours have one index, and can be read and written at once.
template <class T>
bool in_packs(const GatherArgs& a, const T* x, const T* y) {
  return !a.for_each && a.inner % kWide<T> == 0 && aligned({x, y});
}

// --- gather ---

/// Pack i of y.
template <int V, class T>
__device__ Pack<T, V> gathered(const GatherArgs& a, int64_t i, const T* x) {
  const int64_t width = a.inner / V, row = i / width, n = (i - row * width) * V, o = row / a.count;
  const int64_t place = a.for_each ? a.index[i] : a.index[row - o * a.count];
  if (a.inside(place)) return load<V>(x + (o * a.size + place) * a.inner + n);
  Pack<T, V> none;
#pragma unroll
  for (int j = 0; j < V; ++j) none.v[j] = T(std::numeric_limits<float>::quiet_NaN());
  return none;
}

constexpr int kLoads = 2;  // packs that a thread has in flight

template <int V, class T>
__global__ void __launch_bounds__(kBlock) gather_kernel(const GatherArgs a, int64_t packs, const T* x, T* y) {
  wait_for_earlier();
  const int64_t first = int64_t(blockIdx.x) * (kBlock * kLoads) + threadIdx.x;
  Pack<T, V> values[kLoads] = {};
#pragma unroll
  for (int k = 0; k < kLoads; ++k)
    if (first + k * kBlock < packs) values[k] = gathered<V>(a, first + k * kBlock, x);
#pragma unroll
  for (int k = 0; k < kLoads; ++k)
    if (first + k * kBlock < packs) store(y + (first + k * kBlock) * V, values[k]);
}

template <int V, class T>
void gather_packs(const GatherArgs& a, const T* x, T* y) {
  const int64_t packs = a.outer * a.count * a.inner / V;
  if (packs > 0)
    launch_early(gather_kernel<V, T>, blocks_for(packs, kBlock * kLoads), kBlock, a, packs, x, y);
}

template <class T>
void gather(const GatherArgs& a, const T* x, T* y) {
  in_packs(a, x, y) ? gather_packs<kWide<T>>(a, x, y) : gather_packs<1>(a, x, y);
}

// --- scatter_add ---
// The indices are sorted, those of each column or the one list that all columns share, so that equal ones
// lie side by side in the order of i: the thread of the first of them adds up what all of them bring. It
// takes n log n steps whatever the indices are, and the sum is rounded once.

/// The places that the indices name, column by column from `first` on; kNothing's key for what is left out.
struct Places {
  GatherArgs a;
  int64_t first = 0;

  __device__ bool across() const { return a.for_each && a.inner > 1; }
  __device__ Placed operator()(int64_t column, int64_t i) const {
    const int64_t o = (first + column) / a.inner, n = first + column - o * a.inner, place = a.at(o, i, n);
    return placed(a.inside(place) && place != a.skipped ? uint32_t(place) : key_of(kNothing), i);
  }
};

/// sum += those of the elements from `sorted` on that have the key, in their order, some of which are always
/// on their way.
template <int V, class T>
__device__ void add_equal(uint32_t key, const Placed* sorted, int64_t count, const T* src, int64_t inner,
                          float (&sum)[V]) {
  constexpr int kAhead = 4;
  for (bool more = true; more; sorted += kAhead, count -= kAhead) {
    Pack<T, V> packs[kAhead] = {};
    bool equal[kAhead];
#pragma unroll
    for (int k = 0; k < kAhead; ++k) {
      const Placed e = k < count ? sorted[k] : kNothing;
      equal[k] = key_of(e) == key;
      if (equal[k]) packs[k] = load<V>(src + place_of(e) * inner);
    }
#pragma unroll
    for (int k = 0; k < kAhead; ++k) {
      float v[V];
      to_floats(packs[k], v);
#pragma unroll
      for (int j = 0; j < V; ++j) sum[j] = equal[k] ? sum[j] + v[j] : sum[j];
    }
    more = equal[kAhead - 1];
  }
}

/// A thread for each sorted index and pack of columns, `packs` of them from column `first` on. Neighbours
/// have neighbouring indices, or else neighbouring packs.
template <int V, class T>
__global__ void __launch_bounds__(kBlock)
    add_kernel(const GatherArgs a, int64_t first, int64_t packs, bool along_index, const Placed* sorted,
               const T* src, T* y) {
  wait_for_earlier();
  const int64_t thread = int64_t(blockIdx.x) * kBlock + threadIdx.x, side = along_index ? a.count : packs;
  if (thread >= a.count * packs) return;
  const int64_t line = thread / side, in_line = thread - line * side;
  const int64_t pack = along_index ? line : in_line, i = along_index ? in_line : line;
  if (a.for_each) sorted += pack * a.count;
  const uint32_t key = key_of(sorted[i]);
  if (key == key_of(kNothing) || (i > 0 && key_of(sorted[i - 1]) == key)) return;
  const int64_t column = first + pack * V, o = column / a.inner, n = column - o * a.inner;
  T* const to = y + (o * a.size + key) * a.inner + n;
  float sum[V];
  to_floats(load<V>(to), sum);
  add_equal(key, sorted + i, a.count - i, src + o * a.count * a.inner + n, a.inner, sum);
  store(to, from_floats<T>(sum));
}

/// To columns of y from `first` on.
template <int V, class T>
void add_sorted(const GatherArgs& a, int64_t first, int64_t columns, const Placed* sorted, const T* src,
                T* y) {
  constexpr int64_t kNarrow = 8;
  const int64_t packs = columns / V;
  launch_early(add_kernel<V, T>, blocks_for(a.count * packs, kBlock), kBlock, a, first, packs,
               a.for_each || a.inner / V < kNarrow, sorted, src, y);
}

template <class T>
void scatter_add(const GatherArgs& a, const T* src, T* y) {
  const int64_t columns = a.outer * a.inner;
  if (columns == 0 || a.count == 0 || a.size == 0) return;
  if (a.size >= int64_t{1} << 32 || a.count >= int64_t{1} << 32)
    throw Error("cuda::scatter_add: " + std::to_string(a.count) + " indices to " + std::to_string(a.size) +
                " places; fewer than 2^32 are possible");
  const Sort sort(a.count, a.count);
  const int64_t lists = a.for_each ? columns : 1, batch = std::min(sort.batch(), lists);
  const int64_t room = batch * a.count, rooms_count = sort.merges > 0 ? 2 : 1;
  auto* const memory = static_cast<Placed*>(scratch(rooms_count * room * int64_t(sizeof(Placed))));
  Placed* const rooms[2] = {memory, memory + (rooms_count - 1) * room};
  Placed* const sorted = rooms[sort.merges % 2];
  for (int64_t first = 0; first < lists; first += batch) {
    const int64_t count = std::min(batch, lists - first);
    sort(count, Places{a, first}, ToRuns{sorted, {1, a.count, a.count}}, rooms);
    if (a.for_each)
      add_sorted<1>(a, first, count, sorted, src, y);
    else if (in_packs(a, src, y))
      add_sorted<kWide<T>>(a, 0, columns, sorted, src, y);
    else
      add_sorted<1>(a, 0, columns, sorted, src, y);
  }
}

}  // namespace

template <class T>
void set_gather(KernelTable<T>& table) {
  table.gather = gather<T>;
  table.scatter_add = scatter_add<T>;
}

template void set_gather(KernelTable<float>&);
template void set_gather(KernelTable<bf16>&);
template void set_gather(KernelTable<f16>&);

}  // namespace weft::kernels::cuda
