// WEFT_HD marks a function that runs on the CPU and, where CUDA's compiler reads it, on the GPU too; there
// WEFT_OUT_OF_LINE keeps it out of line, so that unrolled loops hold calls and not copies of it.
#pragma once

#ifdef __CUDACC__
#define WEFT_HD __host__ __device__
#define WEFT_OUT_OF_LINE __noinline__
#else
#define WEFT_HD
#define WEFT_OUT_OF_LINE
#endif
