// Rows of a table by their index, and sums of rows back into it.
#include "weft/kernels/cpu/isa/kernels.h"
#include "weft/kernels/cpu/isa/strips.h"

namespace weft::kernels::WEFT_ISA {

void embedding_forward(int64_t count, int64_t entries, int64_t width, const float* table,
                       const int64_t* index, float* y) {
  parallel_ranges(count, rows_per_task(width), [=](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      float* to = y + i * width;
      const bool known = index[i] >= 0 && index[i] < entries;
      const float* from = table + (known ? index[i] * width : 0);
      const Vec none(__builtin_nanf(""));
      each_vector(0, width, [=](auto at, int64_t k) { at.store(known ? at.load(from + k) : none, to + k); });
    }
  });
}

// Each task owns a range of the table's rows and looks through all indices for them, so that every row is
// summed in the order of the indices.
void embedding_backward(int64_t count, int64_t entries, int64_t width, const float* dy, const int64_t* index,
                        int64_t padding, float* dtable) {
  const Parts parts(entries, (count / larger(1, entries) + 1) * width, 16);
  parallel_for(entries > 0 ? parts.count : 0, [=](int64_t part) {
    const int64_t first = parts.begin(part), last = parts.begin(part + 1);
    clear(dtable + first * width, (last - first) * width);
    for (int64_t i = 0; i < count; ++i) {
      if (index[i] < first || index[i] >= last || index[i] == padding) continue;
      const float* from = dy + i * width;
      float* to = dtable + index[i] * width;
      each_vector(0, width,
                  [=](auto at, int64_t k) { at.store(at.load(to + k) + at.load(from + k), to + k); });
    }
  });
}

}  // namespace weft::kernels::WEFT_ISA
