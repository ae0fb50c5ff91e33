# Runs CUDA kernels on the CPU; its cuda_runtime.h takes the place of CUDA's.
file(GLOB emulator_sources CONFIGURE_DEPENDS emulator/*.cpp)
file(GLOB emulated_libraries CONFIGURE_DEPENDS emulator/libraries*.cpp)
list(REMOVE_ITEM emulator_sources ${emulated_libraries})
add_library(weft_emulator STATIC ${emulator_sources})
target_include_directories(weft_emulator PUBLIC emulator/include ${WEFT_DOCTEST})
target_link_libraries(weft_emulator PRIVATE weft_flags)
set(optimise_emulated -O2)  # in every build type, like the kernels of the CPU
if(WEFT_SANITIZE)
  set(optimise_emulated -O1)
endif()
target_compile_options(weft_emulator PRIVATE ${optimise_emulated} INTERFACE -Wno-unknown-pragmas)  # unroll
foreach(name emulator_test emulator_together_test emulator_host_test)
  target_link_libraries(${name} PRIVATE weft_emulator)
endforeach()

# The CUDA kernels and their runtime compiled for the emulated device. Programs that have these objects take nothing
# from kernels/cuda or kernels/no_cuda.cpp in the weft library. Their libraries (cuDNN, cuBLASLt) are replaced.
file(GLOB emulated_sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/kernels/cuda/*.cu ${PROJECT_SOURCE_DIR}/kernels/cuda/*.cpp
  ${PROJECT_SOURCE_DIR}/optim/*.cu)
list(FILTER emulated_sources EXCLUDE REGEX "/(cudnn|conv_plans|conv_padded|convolution|nvidia|plan_cache|gemm)\\.cpp$|/memset_nodes\\.cu$")
set_source_files_properties(${emulated_sources} PROPERTIES LANGUAGE CXX)
add_library(weft_cuda_emulated OBJECT ${emulated_sources} ${emulated_libraries})
target_link_libraries(weft_cuda_emulated PUBLIC weft_emulator weft_flags)
target_compile_options(weft_cuda_emulated PRIVATE ${optimise_emulated})
# Tests of the command start one that is linked with them.
if(TARGET weft_command)
  add_executable(weft_emulated $<TARGET_OBJECTS:weft_main> $<TARGET_OBJECTS:weft_cuda_emulated>)
  target_link_libraries(weft_emulated PRIVATE weft_emulator weft_app)
endif()
foreach(source IN LISTS device_sources)
  get_filename_component(name ${source} NAME_WE)
  target_compile_definitions(${name} PRIVATE WEFT_EMULATED=1)
  if(name MATCHES "^app_")
    target_compile_definitions(${name} PRIVATE WEFT_BINARY="$<TARGET_FILE:weft_emulated>")
    add_dependencies(${name} weft_emulated)
  else()
    target_sources(${name} PRIVATE $<TARGET_OBJECTS:weft_cuda_emulated>)
    target_link_libraries(${name} PRIVATE weft_emulator)
  endif()
endforeach()
