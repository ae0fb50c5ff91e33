// Random numbers: Philox streams, so that the same seed gives the same bits on any number of threads.
#pragma once

#include <cstdint>
#include <vector>

namespace weft {

/// A seeded source of Philox streams. Each draw of a key opens a new stream; what is filled from one key
/// depends on that key and the position alone.
class Generator {
 public:
  explicit Generator(uint64_t seed = 0) : seed_(seed) {}

  /// The key of the next stream.
  uint64_t next_key();
  uint64_t seed() const { return seed_; }
  /// Streams drawn so far. (seed, count) is the whole state.
  uint64_t count() const { return count_; }
  void set_state(uint64_t seed, uint64_t count) { seed_ = seed, count_ = count; }

 private:
  uint64_t seed_, count_ = 0;
};

/// The generator that ops use where none is given. One for the process; not for use by several threads at
/// once.
Generator& default_generator();
/// Restarts the default generator from `seed`.
void manual_seed(uint64_t seed);

/// 0 .. n-1 in random order (Fisher-Yates, unbiased).
std::vector<int64_t> random_permutation(int64_t n, uint64_t key);

}  // namespace weft
