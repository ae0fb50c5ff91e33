#include "weft/kernels/cuda/nvidia.h"

#include <cuda_runtime_api.h>
#include <dlfcn.h>

#include "weft/kernels/cuda.h"

namespace weft::kernels::cuda {

// Into the global scope, where linked libraries are, too: cuDNN opens the other two by name.
void* open_library(const std::string& soname, const std::string& built) {
  constexpr int kHow = RTLD_LAZY | RTLD_GLOBAL;
  if (void* library = dlopen(soname.c_str(), kHow | RTLD_NOLOAD)) return library;
  if (!built.empty())
    if (void* library = dlopen(built.c_str(), kHow)) return library;
  if (void* library = dlopen(soname.c_str(), kHow)) return library;
  const char* why = dlerror();
  throw Error(soname + " can't be loaded, which weft needs on a GPU: " + (why ? why : "no reason given") +
              "; install it, or add its folder to LD_LIBRARY_PATH");
}

namespace {

template <class Function>
void look_up(void* library, const char* name, Function*& function) {
  function = reinterpret_cast<Function*>(dlsym(library, name));
  if (!function)
    throw Error(std::string(name) +
                " is not in the library that was loaded, of another version: " + dlerror());
}

/// What nvrtc opens by name when it compiles, out of its own folder: the system's loader need not know that.
/// Where it isn't there nvrtc looks for it itself, and says what it misses.
void open_builtins(void* nvrtc) {
  int (*version)(int*, int*) = nullptr;
  look_up(nvrtc, "nvrtcVersion", version);
  int major = 0, minor = 0;
  Dl_info file{};
  if (version(&major, &minor) != 0 || dladdr(reinterpret_cast<void*>(version), &file) == 0) return;
  const std::string path = file.dli_fname;
  const std::string folder = path.substr(0, path.rfind('/') + 1);
  dlopen((folder + "libnvrtc-builtins.so." + std::to_string(major) + "." + std::to_string(minor)).c_str(),
         RTLD_LAZY);
}

Nvidia load() {
  open_builtins(open_library("libnvrtc.so." + std::to_string(CUDART_VERSION / 1000), WEFT_NVRTC_FILE));
  void* const cublaslt =
      open_library("libcublasLt.so." + std::to_string(CUBLAS_VER_MAJOR), WEFT_CUBLASLT_FILE);
  void* const cudnn = open_library("libcudnn.so." + std::to_string(CUDNN_MAJOR), WEFT_CUDNN_FILE);
  Nvidia n;
#define WEFT_LOOK_UP(name) look_up(cudnn, #name, n.name);
  WEFT_FOR_EACH_CUDNN_FUNCTION(WEFT_LOOK_UP)
#undef WEFT_LOOK_UP
#define WEFT_LOOK_UP(name) look_up(cublaslt, #name, n.name);
  WEFT_FOR_EACH_CUBLASLT_FUNCTION(WEFT_LOOK_UP)
#undef WEFT_LOOK_UP
  return n;
}

}  // namespace

const Nvidia& nvidia() {
  static const Nvidia functions = load();
  return functions;
}

}  // namespace weft::kernels::cuda
