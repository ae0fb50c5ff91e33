// The random numbers of a picture. Not part of the public API.
#pragma once

#include <array>
#include <cstdint>

#include "weft/kernels/philox.h"

namespace weft::data {

/// Of crops and flips, apart from the other streams of the seed: "crop".
inline constexpr uint64_t kCropStream = 0x63726f70;

/// Four numbers in [0, 1), of sixteen blocks of them for each picture and epoch.
inline std::array<double, 4> uniform(uint64_t stream, uint64_t seed, int64_t epoch, int64_t index,
                                     uint64_t block) {
  const auto words = kernels::philox(seed, uint64_t(index) * 16 + block, uint64_t(epoch) << 32 | stream);
  std::array<double, 4> u;
  for (size_t i = 0; i < 4; ++i) u[i] = double(words[i]) * 0x1p-32;
  return u;
}

/// Whether it is mirrored. Block 0 of the stream: the places of crops begin with 1.
inline bool draw_flip(uint64_t seed, int64_t epoch, int64_t index) {
  return uniform(kCropStream, seed, epoch, index, 0)[0] < 0.5;
}

}  // namespace weft::data
