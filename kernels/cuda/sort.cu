// The order of elements.
#include "weft/kernels/cuda/sort.h"

#include "weft/kernels/cuda/families.h"

namespace weft::kernels::cuda {
namespace {

/// Columns of x, from `first` on, with their sort_key().
template <class T>
struct Floats {
  int64_t size, inner;
  bool descending;
  const T* x;
  int64_t first = 0;

  __device__ bool across() const { return inner > 1; }
  __device__ Placed operator()(int64_t column, int64_t i) const {
    const int64_t o = (first + column) / inner, n = first + column - o * inner;
    return placed(sort_key(float(x[(o * size + i) * inner + n]), descending), i);
  }
};

/// Where they stand, for the first k of each column.
struct ToIndex {
  int64_t k, inner;
  int64_t* index;
  int64_t first = 0;

  __device__ bool across() const { return inner > 1; }
  __device__ void operator()(int64_t column, int64_t, int64_t j, Placed e) const {
    const int64_t o = (first + column) / inner, n = first + column - o * inner;
    index[(o * k + j) * inner + n] = place_of(e);
  }
};

template <class T>
void argsort(int64_t outer, int64_t size, int64_t inner, int64_t k, bool descending, const T* x,
             int64_t* index) {
  const int64_t columns = outer * inner;
  if (columns == 0 || size == 0 || k == 0) return;
  const Sort sort(size, k);
  const int64_t batch = sort.merges > 0 ? std::min(sort.batch(), columns) : columns;
  Placed* rooms[2] = {};
  if (sort.merges > 0) {
    const int64_t room = batch * sort.runs.of_column();
    rooms[0] = static_cast<Placed*>(scratch(2 * room * int64_t(sizeof(Placed))));
    rooms[1] = rooms[0] + room;
  }
  for (int64_t first = 0; first < columns; first += batch)
    sort(std::min(batch, columns - first), Floats<T>{size, inner, descending, x, first},
         ToIndex{k, inner, index, first}, rooms);
}

}  // namespace

template <class T>
void set_argsort(KernelTable<T>& table) {
  table.argsort = argsort<T>;
}

template void set_argsort(KernelTable<float>&);
template void set_argsort(KernelTable<bf16>&);
template void set_argsort(KernelTable<f16>&);

}  // namespace weft::kernels::cuda
