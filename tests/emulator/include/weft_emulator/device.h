#pragma once
// What a kernel sees of its block and its warp, and atomics.

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "vector_types.h"

extern constinit thread_local uint3 threadIdx;
extern constinit thread_local uint3 blockIdx;
extern constinit thread_local dim3 blockDim;
extern constinit thread_local dim3 gridDim;
inline constexpr int warpSize = 32;

namespace weft_emulator {

/// Waits for all living threads of the blocks with this blockIdx.x, in a cooperative launch.
void meet();

namespace detail {

/// Where a kernel waits; for messages, and to see that all threads of a block wait at the same place.
struct Place {
  const char* file;
  int line;
};

enum class Barrier { sync, vote_or, vote_and, count };
enum class Warp { sync, shfl, shfl_up, shfl_down, shfl_xor, ballot, add, min, max, bit_and, bit_or, bit_xor };

/// Waits for all living threads of the block.
int barrier(Barrier op, int value, Place place);

/// Waits for the living lanes of `mask`; returns what `op` makes of their values. A shuffle from a lane that
/// takes no part gives 0xffffdead in each half, which is NaN as a float and as a double.
uint64_t warp(Warp op, unsigned mask, uint64_t value, unsigned lane, int width, Place place);

/// Lets other threads of the block run.
void yield();

[[noreturn]] void trap(Place place);

template <class T>
T shuffle(Warp op, unsigned mask, T value, unsigned lane, int width, Place place) {
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof value);
  bits = warp(op, mask, bits, lane, width, place);
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

}  // namespace detail
}  // namespace weft_emulator

#define WEFT_EMULATOR_PLACE_ARGUMENTS const char *file = __builtin_FILE(), int line = __builtin_LINE()
#define WEFT_EMULATOR_PLACE \
  weft_emulator::detail::Place { file, line }

inline void __syncthreads(WEFT_EMULATOR_PLACE_ARGUMENTS) {
  weft_emulator::detail::barrier(weft_emulator::detail::Barrier::sync, 0, WEFT_EMULATOR_PLACE);
}
inline int __syncthreads_or(int predicate, WEFT_EMULATOR_PLACE_ARGUMENTS) {
  return weft_emulator::detail::barrier(weft_emulator::detail::Barrier::vote_or, predicate,
                                        WEFT_EMULATOR_PLACE);
}
inline int __syncthreads_and(int predicate, WEFT_EMULATOR_PLACE_ARGUMENTS) {
  return weft_emulator::detail::barrier(weft_emulator::detail::Barrier::vote_and, predicate,
                                        WEFT_EMULATOR_PLACE);
}
inline int __syncthreads_count(int predicate, WEFT_EMULATOR_PLACE_ARGUMENTS) {
  return weft_emulator::detail::barrier(weft_emulator::detail::Barrier::count, predicate,
                                        WEFT_EMULATOR_PLACE);
}
inline void __syncwarp(unsigned mask = 0xffffffff, WEFT_EMULATOR_PLACE_ARGUMENTS) {
  weft_emulator::detail::warp(weft_emulator::detail::Warp::sync, mask, 0, 0, 32, WEFT_EMULATOR_PLACE);
}

#define WEFT_EMULATOR_SHUFFLES(T)                                                                          \
  inline T __shfl_sync(unsigned mask, T value, int lane, int width = 32, WEFT_EMULATOR_PLACE_ARGUMENTS) {  \
    using namespace weft_emulator::detail;                                                                 \
    return shuffle(Warp::shfl, mask, value, static_cast<unsigned>(lane), width, WEFT_EMULATOR_PLACE);      \
  }                                                                                                        \
  inline T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32,                          \
                          WEFT_EMULATOR_PLACE_ARGUMENTS) {                                                 \
    using namespace weft_emulator::detail;                                                                 \
    return shuffle(Warp::shfl_up, mask, value, delta, width, WEFT_EMULATOR_PLACE);                         \
  }                                                                                                        \
  inline T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32,                        \
                            WEFT_EMULATOR_PLACE_ARGUMENTS) {                                               \
    using namespace weft_emulator::detail;                                                                 \
    return shuffle(Warp::shfl_down, mask, value, delta, width, WEFT_EMULATOR_PLACE);                       \
  }                                                                                                        \
  inline T __shfl_xor_sync(unsigned mask, T value, int lanes, int width = 32,                              \
                           WEFT_EMULATOR_PLACE_ARGUMENTS) {                                                \
    using namespace weft_emulator::detail;                                                                 \
    return shuffle(Warp::shfl_xor, mask, value, static_cast<unsigned>(lanes), width, WEFT_EMULATOR_PLACE); \
  }
WEFT_EMULATOR_SHUFFLES(int)
WEFT_EMULATOR_SHUFFLES(unsigned)
WEFT_EMULATOR_SHUFFLES(long)
WEFT_EMULATOR_SHUFFLES(unsigned long)
WEFT_EMULATOR_SHUFFLES(long long)
WEFT_EMULATOR_SHUFFLES(unsigned long long)
WEFT_EMULATOR_SHUFFLES(float)
WEFT_EMULATOR_SHUFFLES(double)
#undef WEFT_EMULATOR_SHUFFLES

inline unsigned __ballot_sync(unsigned mask, int predicate, WEFT_EMULATOR_PLACE_ARGUMENTS) {
  using namespace weft_emulator::detail;
  return static_cast<unsigned>(warp(Warp::ballot, mask, predicate != 0, 0, 32, WEFT_EMULATOR_PLACE));
}
inline int __any_sync(unsigned mask, int predicate, WEFT_EMULATOR_PLACE_ARGUMENTS) {
  return __ballot_sync(mask, predicate, file, line) != 0;
}
inline int __all_sync(unsigned mask, int predicate, WEFT_EMULATOR_PLACE_ARGUMENTS) {
  return __ballot_sync(mask, predicate == 0, file, line) == 0;
}

/// Its own lane only: CUDA promises no more, and code that hopes for more shows here.
unsigned __activemask();

#define WEFT_EMULATOR_REDUCE(name, T, op)                                                     \
  inline T __reduce_##name##_sync(unsigned mask, T value, WEFT_EMULATOR_PLACE_ARGUMENTS) {    \
    using namespace weft_emulator::detail;                                                    \
    /* Widened with its sign, so that signed and unsigned values compare alike as 64 bits. */ \
    const auto wide = static_cast<uint64_t>(static_cast<int64_t>(value));                     \
    return static_cast<T>(warp(Warp::op, mask, wide, 0, 32, WEFT_EMULATOR_PLACE));            \
  }
WEFT_EMULATOR_REDUCE(add, int, add)
WEFT_EMULATOR_REDUCE(add, unsigned, add)
WEFT_EMULATOR_REDUCE(min, int, min)
WEFT_EMULATOR_REDUCE(min, unsigned, min)
WEFT_EMULATOR_REDUCE(max, int, max)
WEFT_EMULATOR_REDUCE(max, unsigned, max)
WEFT_EMULATOR_REDUCE(and, unsigned, bit_and)
WEFT_EMULATOR_REDUCE(or, unsigned, bit_or)
WEFT_EMULATOR_REDUCE(xor, unsigned, bit_xor)
#undef WEFT_EMULATOR_REDUCE

inline void __threadfence() {}
inline void __threadfence_block() {}
inline void __threadfence_system() {}
inline void __nanosleep(unsigned) { weft_emulator::detail::yield(); }
[[noreturn]] inline void __trap(WEFT_EMULATOR_PLACE_ARGUMENTS) {
  weft_emulator::detail::trap(WEFT_EMULATOR_PLACE);
}
inline void cudaGridDependencySynchronize() {}
inline void cudaTriggerProgrammaticLaunchCompletion() {}

#undef WEFT_EMULATOR_PLACE
#undef WEFT_EMULATOR_PLACE_ARGUMENTS

// One thread runs at a time, so that plain memory accesses are atomic.
#define WEFT_EMULATOR_ATOMIC(name, T, expression) \
  inline T name(T* address, T value) {            \
    const T old = *address;                       \
    *address = expression;                        \
    return old;                                   \
  }
#define WEFT_EMULATOR_ATOMIC_INTEGERS(name, expression) \
  WEFT_EMULATOR_ATOMIC(name, int, expression)           \
  WEFT_EMULATOR_ATOMIC(name, unsigned, expression)      \
  WEFT_EMULATOR_ATOMIC(name, unsigned long long, expression)
// Sums wrap around, which signed integers may not do in C++.
WEFT_EMULATOR_ATOMIC(atomicAdd, int,
                     static_cast<int>(static_cast<unsigned>(old) + static_cast<unsigned>(value)))
WEFT_EMULATOR_ATOMIC(atomicAdd, unsigned, old + value)
WEFT_EMULATOR_ATOMIC(atomicAdd, unsigned long long, old + value)
WEFT_EMULATOR_ATOMIC(atomicAdd, float, old + value)
WEFT_EMULATOR_ATOMIC(atomicAdd, double, old + value)
WEFT_EMULATOR_ATOMIC(atomicSub, int,
                     static_cast<int>(static_cast<unsigned>(old) - static_cast<unsigned>(value)))
WEFT_EMULATOR_ATOMIC(atomicSub, unsigned, old - value)
WEFT_EMULATOR_ATOMIC_INTEGERS(atomicMax, old > value ? old : value)
WEFT_EMULATOR_ATOMIC_INTEGERS(atomicMin, old < value ? old : value)
WEFT_EMULATOR_ATOMIC(atomicMax, long long, old > value ? old : value)
WEFT_EMULATOR_ATOMIC(atomicMin, long long, old < value ? old : value)
WEFT_EMULATOR_ATOMIC_INTEGERS(atomicOr, old | value)
WEFT_EMULATOR_ATOMIC_INTEGERS(atomicAnd, old& value)
WEFT_EMULATOR_ATOMIC_INTEGERS(atomicXor, old ^ value)
WEFT_EMULATOR_ATOMIC_INTEGERS(atomicExch, value)
WEFT_EMULATOR_ATOMIC(atomicExch, float, value)
WEFT_EMULATOR_ATOMIC(atomicInc, unsigned, old >= value ? 0 : old + 1)
WEFT_EMULATOR_ATOMIC(atomicDec, unsigned, old == 0 || old > value ? value : old - 1)
#undef WEFT_EMULATOR_ATOMIC_INTEGERS
#undef WEFT_EMULATOR_ATOMIC

#define WEFT_EMULATOR_CAS(T)                           \
  inline T atomicCAS(T* address, T compare, T value) { \
    const T old = *address;                            \
    if (old == compare) *address = value;              \
    return old;                                        \
  }
WEFT_EMULATOR_CAS(int)
WEFT_EMULATOR_CAS(unsigned)
WEFT_EMULATOR_CAS(unsigned short)
WEFT_EMULATOR_CAS(unsigned long long)
#undef WEFT_EMULATOR_CAS
