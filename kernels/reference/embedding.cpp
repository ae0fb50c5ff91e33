#include <limits>
#include <vector>

#include "weft/kernels/reference/families.h"

namespace weft::kernels::plain {
namespace {

template <class T>
void embedding_forward(int64_t count, int64_t entries, int64_t width, const T* table, const int64_t* index,
                       T* y) {
  for (int64_t i = 0; i < count; ++i)
    for (int64_t k = 0; k < width; ++k)
      y[i * width + k] = index[i] >= 0 && index[i] < entries ? table[index[i] * width + k]
                                                             : std::numeric_limits<T>::quiet_NaN();
}

template <class T>
void embedding_backward(int64_t count, int64_t entries, int64_t width, const T* dy, const int64_t* index,
                        int64_t padding, T* dtable) {
  std::vector<double> sum(size_t(entries * width), 0.0);
  for (int64_t i = 0; i < count; ++i) {
    if (index[i] < 0 || index[i] >= entries || index[i] == padding) continue;
    for (int64_t k = 0; k < width; ++k) sum[size_t(index[i] * width + k)] += double(dy[i * width + k]);
  }
  for (int64_t k = 0; k < entries * width; ++k) dtable[k] = T(sum[size_t(k)]);
}

}  // namespace

template <class T>
void set_embedding(KernelTable<T>& table) {
  table.embedding_forward = embedding_forward<T>;
  table.embedding_backward = embedding_backward<T>;
}

template void set_embedding(KernelTable<float>&);
template void set_embedding(KernelTable<double>&);

}  // namespace weft::kernels::plain
