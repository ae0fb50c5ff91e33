// WEFT_HD marks a function that runs on the CPU and, where CUDA's compiler reads it, on the GPU too.
#pragma once

#ifdef __CUDACC__
#define WEFT_HD __host__ __device__
#else
#define WEFT_HD
#endif
