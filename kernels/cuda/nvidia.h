// cuDNN's and cuBLASLt's functions, looked up when the first convolution or matrix product asks for them. A
// program that has these libraries linked in takes a tenth of a second and 100 MB more to start, on a machine
// without a GPU too, and does not start where they are missing.
#pragma once

#include <cublasLt.h>
#include <cudnn.h>

#include <string>

namespace weft::kernels::cuda {

#define WEFT_FOR_EACH_CUDNN_FUNCTION(X) \
  X(cudnnBackendCreateDescriptor)       \
  X(cudnnBackendDestroyDescriptor)      \
  X(cudnnBackendExecute)                \
  X(cudnnBackendFinalize)               \
  X(cudnnBackendGetAttribute)           \
  X(cudnnBackendSetAttribute)           \
  X(cudnnCreate)                        \
  X(cudnnDestroy)                       \
  X(cudnnGetErrorString)                \
  X(cudnnGetLastErrorString)            \
  X(cudnnGetVersion)                    \
  X(cudnnSetStream)

// Those that end in _internal are what cublasLt.h's inline functions without it call.
#define WEFT_FOR_EACH_CUBLASLT_FUNCTION(X) \
  X(cublasLtCreate)                        \
  X(cublasLtGetStatusName)                 \
  X(cublasLtGetStatusString)               \
  X(cublasLtGetVersion)                    \
  X(cublasLtMatmul)                        \
  X(cublasLtMatmulAlgoCheck)               \
  X(cublasLtMatmulAlgoGetHeuristic)        \
  X(cublasLtMatmulDescInit_internal)       \
  X(cublasLtMatmulDescSetAttribute)        \
  X(cublasLtMatmulPreferenceInit_internal) \
  X(cublasLtMatmulPreferenceSetAttribute)  \
  X(cublasLtMatrixLayoutInit_internal)     \
  X(cublasLtMatrixLayoutSetAttribute)

/// The libraries' functions under their own names.
struct Nvidia {
#define WEFT_FUNCTION(name) decltype(&::name) name = nullptr;
  WEFT_FOR_EACH_CUDNN_FUNCTION(WEFT_FUNCTION)
  WEFT_FOR_EACH_CUBLASLT_FUNCTION(WEFT_FUNCTION)
#undef WEFT_FUNCTION
};

/// Loads the libraries at the first call. Of each: the one that the process has already, else the file that
/// the build found, else what the system's loader finds (LD_LIBRARY_PATH). Throws Error where there is none,
/// or one that lacks a function; the next call tries again.
const Nvidia& nvidia();

/// The library with the name `soname` in that order; `built` is the build's file, or "". Throws Error.
void* open_library(const std::string& soname, const std::string& built);

}  // namespace weft::kernels::cuda
