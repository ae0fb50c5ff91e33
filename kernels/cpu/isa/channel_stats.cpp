#include "weft/kernels/cpu/isa/channel_stats.h"

#include "weft/kernels/cpu/isa/loops.h"

namespace weft::kernels::WEFT_ISA {
namespace {

// Bytes of x that the second pass over a block finds in the cache.
constexpr int64_t kBlockBytes = 64 << 10, kLeastRows = 32;

void clear(float* p, int64_t n) {
  for (int64_t i = 0; i < n; ++i) p[i] = 0;
}

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
  const int64_t block = larger(kLeastRows, kBlockBytes / (columns * int64_t(sizeof(float))));
  float *count = memory_.get() + part * part_floats_ + channel, *mean = count + channels_,
        *squares = mean + channels_;
  const Scratch scratch(3 * columns);
  float *centre = scratch.get(), *sum = centre + columns, *sum_squares = sum + columns;
  for (int64_t first = 0; first < rows; first += block) {
    const int64_t last = smaller(rows, first + block);
    clear(centre, 3 * columns);
    for (int64_t r = first; r < last; ++r)
      each_vector(0, columns, [=](auto at, int64_t c) {
        at.store(at.load(centre + c) + at.load(x + r * pitch + c), centre + c);
      });
    const float n = float(last - first), before = count[0], all = before + n;
    const Vec inverse(1.0f / n);
    each_vector(0, columns, [=](auto at, int64_t c) { at.store(at.load(centre + c) * inverse, centre + c); });
    for (int64_t r = first; r < last; ++r)
      each_vector(0, columns, [=](auto at, int64_t c) {
        const Vec d = at.load(x + r * pitch + c) - at.load(centre + c);
        at.store(at.load(sum + c) + d, sum + c);
        at.store(fma(d, d, at.load(sum_squares + c)), sum_squares + c);
      });
    const Vec share(n / all), weight(before * (n / all)), rows_now(all);
    each_vector(0, columns, [=](auto at, int64_t c) {
      const Vec off = at.load(sum + c) * inverse, block_mean = at.load(centre + c) + off;
      const Vec block_squares = at.load(sum_squares + c) - off * at.load(sum + c);
      const Vec m = at.load(mean + c), d = block_mean - m;
      at.store(fma(d, share, m), mean + c);
      at.store(at.load(squares + c) + fma(d * d, weight, block_squares), squares + c);
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
