// Blocks that run at the same time and tell each other what they have by way of global memory.
#pragma once

#include <bit>
#include <cstdint>

#include "weft/kernels/cuda/device.h"
#include "weft/kernels/cuda/reduction.h"

namespace weft::kernels::cuda {

/// Two floats that a block tells others, in global memory, 0 at first. Each travels in one word with the
/// number of the turn: who finds that number has the value, and waits for nothing else. That is one way
/// through the L2 cache, where a counter of those who have arrived takes three. (The LL protocol of NCCL,
/// NVIDIA's collective communication.)
struct alignas(16) Told {
  uint64_t words[2];

  __device__ float value(int k) const { return std::bit_cast<float>(uint32_t(words[k])); }
  __device__ bool is_of(unsigned turn) const {
    return unsigned(words[0] >> 32) == turn && unsigned(words[1] >> 32) == turn;
  }

  /// For one thread of the block.
  __device__ void tell(unsigned turn, float a, float b) {
    const uint64_t high = uint64_t(turn) << 32, first = high | std::bit_cast<uint32_t>(a),
                   second = high | std::bit_cast<uint32_t>(b);
#ifdef __CUDACC__
    asm volatile("st.relaxed.gpu.global.v2.b64 [%0], {%1, %2};" ::"l"(__cvta_generic_to_global(this)),
                 "l"(first), "l"(second)
                 : "memory");
#else
    words[0] = first, words[1] = second;
#endif
  }
  /// What is there now.
  __device__ Told look() const {
#ifdef __CUDACC__
    Told now;
    asm volatile("ld.relaxed.gpu.global.v2.b64 {%0, %1}, [%2];"
                 : "=l"(now.words[0]), "=l"(now.words[1])
                 : "l"(__cvta_generic_to_global(this))
                 : "memory");
    return now;
#else
    return *this;
#endif
  }
  /// What is told in this turn, where `now` is what look() has given. Whoever should tell and does not ends
  /// the kernel with an error after half a minute, where all others would wait for ever.
  __device__ Told hear(unsigned turn, Told now) const {
#ifdef __CUDACC__
    for (unsigned looks = 0; !now.is_of(turn); ++looks) {
      if (looks > 0) __nanosleep(200);  // the cache has others to serve
      if (looks == 1u << 25) __trap();
      now = look();
    }
#else
    while (!now.is_of(turn)) weft_emulator::meet(), now = look();  // too late: see let_others_tell()
#endif
    return now;
  }
};

/// Between a block's tell() and its first look(): the emulated device runs the others there.
__device__ inline void let_others_tell() {
#ifndef __CUDACC__
  weft_emulator::meet();
#endif
}

/// How many turns there have been, in global memory, 0 at first and used by one kernel at a time, which has
/// one. All its blocks have the same, those too that tell each other nothing: so a Told that served another
/// group in an earlier kernel has the number of another turn. (Unless all of 2^32 - 1 turns have gone by
/// since.)
struct Turns {
  unsigned had, done_blocks;

  /// The number of this turn. 0 is left out: nobody has told it.
  __device__ unsigned next() const {
    const unsigned turn = had + 1;
    return turn == 0 ? 1 : turn;
  }
  /// By one thread of each block, behind a barrier behind next().
  __device__ void done(unsigned turn) {
    if (is_last(&done_blocks, gridDim.x * gridDim.y)) had = turn;
  }
};

/// As launch_early(), for blocks that tell each other: those of each blockIdx.x. All blocks have to run at
/// once, so there are at most as many as multiprocessors, and can_launch_together(). No other kernel that
/// does so may run beside; one that does not ends some time, and then the blocks that had to wait for it
/// begin.
template <class... Params, class... Args>
void launch_together(void (*kernel)(Params...), dim3 grid, dim3 block, Args&&... args) {
#ifdef __CUDACC__
  launch_early(kernel, grid, block, args...);
#else
  cudaLaunchAttribute together{};
  together.id = cudaLaunchAttributeCooperative;
  together.val.cooperative = 1;
  launch_with(&together, 1, 0, kernel, grid, block, args...);
#endif
}

}  // namespace weft::kernels::cuda
