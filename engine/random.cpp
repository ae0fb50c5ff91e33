#include "weft/engine/random.h"

#include <cstddef>
#include <numeric>
#include <utility>

#include "weft/engine/checkpoint.h"
#include "weft/kernels/philox.h"

namespace weft {

uint64_t Generator::next_key() {
  return once([&] {
    // "weft": apart from data streams of the seed.
    const auto words = kernels::philox(seed_, count_++, /*hi=*/0x77656674);
    return uint64_t(words[0]) << 32 | words[1];
  });
}

Generator& default_generator() {
  static Generator generator;
  return generator;
}

void manual_seed(uint64_t seed) { default_generator().set_state(seed, 0); }

std::vector<int64_t> random_permutation(int64_t n, uint64_t key) {
  std::vector<int64_t> p(static_cast<std::size_t>(n));
  std::iota(p.begin(), p.end(), int64_t{0});
  uint64_t counter = 0;
  for (int64_t i = n - 1; i > 0; --i) {
    // Reject the top of the range, so that every index is equally likely.
    const uint64_t bound = uint64_t(i) + 1, limit = UINT64_MAX - UINT64_MAX % bound;
    uint64_t r;
    do {
      const auto w = kernels::philox(key, counter++);
      r = uint64_t(w[0]) << 32 | w[1];
    } while (r >= limit);
    std::swap(p[std::size_t(i)], p[std::size_t(r % bound)]);
  }
  return p;
}

}  // namespace weft
