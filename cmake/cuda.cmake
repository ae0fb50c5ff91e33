# NVIDIA's libraries, which weft loads when it runs (kernels/cuda/nvidia.h): WEFT_<NAME>_INCLUDE and WEFT_<NAME>_LIBRARY of
# CUDNN, CUBLASLT and NVRTC. WEFT_CUDA_MISSING says in words what was not found, and where to tell.
# Looked for in: CUDNN_ROOT and CUDA_ROOT (CMake's or the environment's), the CUDA toolkit, the system's folders,
# and the Python packages nvidia-* (their libraries have no unversioned names).
find_package(CUDAToolkit QUIET)
set(WEFT_CUDA_MISSING "")

# Folders of the Python packages, or nothing.
function(weft_nvidia_packages out)
  set(folders "")
  find_package(Python3 QUIET COMPONENTS Interpreter)
  if(Python3_Interpreter_FOUND)
    execute_process(COMMAND ${Python3_EXECUTABLE} -c "
import glob, os
try:
    import nvidia
    paths = list(nvidia.__path__)
except ImportError:
    paths = []
for path in paths:
    for name in ['cudnn', 'cu13', 'cublas', 'cuda_nvrtc']:
        folder = os.path.join(path, name)
        if os.path.isdir(folder):
            print(folder)
" OUTPUT_VARIABLE printed ERROR_QUIET OUTPUT_STRIP_TRAILING_WHITESPACE)
    string(REPLACE "\n" ";" folders "${printed}")
  endif()
  set(${out} "${folders}" PARENT_SCOPE)
endfunction()

# weft_find_nvidia(NAME LIBRARY HEADER VERSIONS): the cache variables WEFT_<NAME>_LIBRARY and WEFT_<NAME>_INCLUDE.
function(weft_find_nvidia name library header versions)
  set(names ${library})
  foreach(version IN LISTS versions)
    list(APPEND names lib${library}.so.${version})
  endforeach()
  set(given ${CUDNN_ROOT} $ENV{CUDNN_ROOT} ${CUDA_ROOT} $ENV{CUDA_ROOT})
  set(toolkit ${CUDAToolkit_LIBRARY_ROOT} ${CUDAToolkit_TARGET_DIR} ${CUDAToolkit_LIBRARY_DIR}/..)
  set(suffixes lib lib64 lib/x64 targets/${CMAKE_SYSTEM_PROCESSOR}-linux/lib)
  # First where it was told, then with the toolkit, then anywhere: the order of find_library is another one.
  foreach(step given toolkit system packages)
    if(step STREQUAL "system")
      find_library(WEFT_${name}_LIBRARY NAMES ${names})
      find_path(WEFT_${name}_INCLUDE ${header})
      continue()
    endif()
    set(roots ${${step}})
    if(step STREQUAL "packages")
      if(WEFT_${name}_LIBRARY AND WEFT_${name}_INCLUDE)
        break()
      endif()
      weft_nvidia_packages(roots)
    endif()
    find_library(WEFT_${name}_LIBRARY NAMES ${names} PATHS ${roots} PATH_SUFFIXES ${suffixes} NO_DEFAULT_PATH)
    find_path(WEFT_${name}_INCLUDE ${header} PATHS ${roots} PATH_SUFFIXES include NO_DEFAULT_PATH)
  endforeach()
  mark_as_advanced(WEFT_${name}_LIBRARY WEFT_${name}_INCLUDE)
endfunction()

weft_find_nvidia(CUDNN cudnn cudnn_backend.h "9")
weft_find_nvidia(CUBLASLT cublasLt cublasLt.h "13;12")
weft_find_nvidia(NVRTC nvrtc nvrtc.h "13;12")

# Version 9 brought the whole graph API under the names that are used here.
set(WEFT_CUDNN_VERSION 0)
if(WEFT_CUDNN_INCLUDE)
  foreach(file cudnn_version.h cudnn_version_v9.h)
    if(EXISTS ${WEFT_CUDNN_INCLUDE}/${file} AND NOT WEFT_CUDNN_VERSION)
      file(STRINGS ${WEFT_CUDNN_INCLUDE}/${file} defines REGEX "#define CUDNN_(MAJOR|MINOR|PATCHLEVEL) ")
      string(REGEX REPLACE "[^0-9;]" "" numbers "${defines}")
      string(REPLACE ";" "." WEFT_CUDNN_VERSION "${numbers}")
    endif()
  endforeach()
endif()

if(NOT WEFT_CUDNN_LIBRARY OR NOT WEFT_CUDNN_INCLUDE OR WEFT_CUDNN_VERSION VERSION_LESS 9.0)
  list(APPEND WEFT_CUDA_MISSING "cuDNN 9 or later (found: version ${WEFT_CUDNN_VERSION}; set CUDNN_ROOT to the folder with its include and lib)")
elseif(NOT WEFT_NVRTC_LIBRARY)  # with which cuDNN compiles kernels
  list(APPEND WEFT_CUDA_MISSING "nvrtc (a part of the CUDA toolkit; set CUDA_ROOT)")
endif()
if(NOT WEFT_CUBLASLT_LIBRARY OR NOT WEFT_CUBLASLT_INCLUDE)
  list(APPEND WEFT_CUDA_MISSING "cuBLASLt (a part of the CUDA toolkit; set CUDA_ROOT)")
endif()
