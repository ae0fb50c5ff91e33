#include "weft/kernels/cpu/isa/channel_stats.h"

#include "weft/kernels/cpu/isa/strips.h"

namespace weft::kernels::WEFT_ISA {
namespace {

// Bytes of x that the second pass over a block finds in the cache.
constexpr int64_t kBlockBytes = 64 << 10, kLeastBlock = 32;

}  // namespace

StatsParts::StatsParts(int64_t parts, int64_t channels)
    : parts_(parts),
      channels_(channels),
      part_floats_(round_up(3 * channels, 16)),
      memory_(parts * part_floats_) {
  clear(memory_.get(), parts * part_floats_);
}

// Mean and sum of squared deviations block by block, each in two passes, the second of which also mends the
// rounding of the first one's mean; merged by the formula of Chan, Golub and LeVeque (1979).
void StatsParts::add(int64_t part, const float* x, int64_t rows, int64_t pitch, int64_t channel,
                     int64_t columns) {
  const int64_t block = larger(kLeastBlock, kBlockBytes / (columns * int64_t(sizeof(float))));
  float *count = memory_.get() + part * part_floats_ + channel, *mean = count + channels_,
        *squares = mean + channels_;
  const Scratch scratch(3 * columns);
  float *centre = scratch.get(), *sum = centre + columns, *sum_squares = sum + columns;
  for (int64_t first = 0; first < rows; first += block) {
    const int64_t last = smaller(rows, first + block);
    clear(centre, 3 * columns);
    each_strip(first, last, columns,
               [=]<int vecs>(Strip<vecs>, auto at, int64_t from, int64_t to, int64_t c) {
                 Vec acc[vecs];
#pragma GCC unroll 4
                 for (int v = 0; v < vecs; ++v) acc[v] = at.load(centre + c + v * kWidth);
                 for (int64_t r = from; r < to; ++r)
#pragma GCC unroll 4
                   for (int v = 0; v < vecs; ++v) acc[v] += at.load(x + r * pitch + c + v * kWidth);
#pragma GCC unroll 4
                 for (int v = 0; v < vecs; ++v) at.store(acc[v], centre + c + v * kWidth);
               });
    const float n = float(last - first), before = count[0], all = before + n;
    const Vec inverse(1.0f / n);
    each_vector(0, columns, [=](auto at, int64_t c) { at.store(at.load(centre + c) * inverse, centre + c); });
    each_strip(first, last, columns,
               [=]<int vecs>(Strip<vecs>, auto at, int64_t from, int64_t to, int64_t c) {
                 Vec middle[vecs], acc[vecs], acc_squares[vecs];
#pragma GCC unroll 4
                 for (int v = 0; v < vecs; ++v) {
                   middle[v] = at.load(centre + c + v * kWidth);
                   acc[v] = at.load(sum + c + v * kWidth);
                   acc_squares[v] = at.load(sum_squares + c + v * kWidth);
                 }
                 for (int64_t r = from; r < to; ++r)
#pragma GCC unroll 4
                   for (int v = 0; v < vecs; ++v) {
                     const Vec d = at.load(x + r * pitch + c + v * kWidth) - middle[v];
                     acc[v] += d;
                     acc_squares[v] = fma(d, d, acc_squares[v]);
                   }
#pragma GCC unroll 4
                 for (int v = 0; v < vecs; ++v) {
                   at.store(acc[v], sum + c + v * kWidth);
                   at.store(acc_squares[v], sum_squares + c + v * kWidth);
                 }
               });
    const Vec share(n / all), weight(before * (n / all)), rows_now(all);
    each_vector(0, columns, [=](auto at, int64_t c) {
      const Vec off = at.load(sum + c) * inverse, block_mean = at.load(centre + c) + off;
      const Vec block_squares = at.load(sum_squares + c) - off * at.load(sum + c);
      const Vec m = at.load(mean + c), d = block_mean - m;
      at.store(fma(d, share, m), mean + c);
      // d * weight first: in the first block, where it is 0, d can be too large to be squared.
      at.store(at.load(squares + c) + fma(d * weight, d, block_squares), squares + c);
      at.store(rows_now, count + c);
    });
  }
}

void StatsParts::combine(float* mean, float* var) const {
  for (int64_t c = 0; c < channels_; ++c) {
    double n = 0, m = 0, squares = 0;
    for (int64_t part = 0; part < parts_; ++part) {
      const float* from = memory_.get() + part * part_floats_ + c;
      const double count = double(from[0]), d = double(from[channels_]) - m;
      if (count == 0) continue;
      squares += double(from[2 * channels_]) + d * d * (n * count / (n + count));
      n += count;
      m += d * (count / n);
    }
    mean[c] = float(m);
    var[c] = float(squares / n);
  }
}

}  // namespace weft::kernels::WEFT_ISA
