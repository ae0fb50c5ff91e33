#pragma once
// Stands in for CUDA's header of the same name where a .cu file is compiled by a plain C++ compiler: kernels
// then run on the CPU, thread by thread (../README.md).

#include <memory>  // before __noinline__ becomes a macro: libstdc++ writes __attribute__((__noinline__)) in there

#define __global__
#define __device__
#define __host__
#define __constant__
#define __grid_constant__
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
/// All threads of a block run on one thread of the CPU, and blocks one after the other.
#define __shared__ static thread_local

#include "weft_emulator/vector_types.h"

#include "weft_emulator/device.h"

#include "weft_emulator/maths.h"

#include "weft_emulator/host.h"
