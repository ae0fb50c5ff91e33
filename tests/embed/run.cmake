# Builds the outside project of this folder against weft and runs it.
#   cmake -DMODE=package -DWEFT_BUILD=build-folder-of-weft ...         installed into a prefix, which then moves
#   cmake -DMODE=subdirectory -DWEFT_SOURCE=source-folder-of-weft ...  as a folder of the outside project, as a shared library
#   cmake -DMODE=shared_package ...                                    what the second one built, installed
# Common: -DWORK=scratch folder -DCOMPILER=c++ [-DLAUNCHER=ccache] [-DDATA=ON] -P run.cmake
set(common -G Ninja -DCMAKE_BUILD_TYPE=Release -DCMAKE_CXX_COMPILER=${COMPILER} -DCMAKE_CXX_COMPILER_LAUNCHER=${LAUNCHER})

function(run)
  execute_process(COMMAND ${ARGN} RESULT_VARIABLE code)
  if(NOT code STREQUAL "0")
    string(REPLACE ";" " " command "${ARGN}")
    message(FATAL_ERROR "failed (${code}): ${command}")
  endif()
endfunction()

function(install_and_move weft_build prefix)
  file(REMOVE_RECURSE ${prefix} ${prefix}-moved)
  run(${CMAKE_COMMAND} --install ${weft_build} --prefix ${prefix})
  # A package that remembers where it was installed breaks here.
  file(RENAME ${prefix} ${prefix}-moved)
  file(GLOB_RECURSE sources ${prefix}-moved/*.cpp)
  if(sources)
    message(FATAL_ERROR "sources were installed: ${sources}")
  endif()
  foreach(header weft.h engine/tensor.h engine/ops/conv.h kernels/activation_names.h layers/layers.h optim/optim.h)
    if(NOT EXISTS ${prefix}-moved/include/weft/${header})
      message(FATAL_ERROR "not installed: include/weft/${header}")
    endif()
  endforeach()
endfunction()

function(build_against_package prefix build)
  file(REMOVE_RECURSE ${build})
  run(${CMAKE_COMMAND} -S ${CMAKE_CURRENT_LIST_DIR} -B ${build} ${common} -DCMAKE_PREFIX_PATH=${prefix})
  run(${CMAKE_COMMAND} --build ${build})
  run(${CMAKE_COMMAND} -E chdir ${build} ./embed)
  if(DATA)
    run(${CMAKE_COMMAND} -E chdir ${build} ./embed_data)
  endif()
endfunction()

if(MODE STREQUAL "package")
  install_and_move(${WEFT_BUILD} ${WORK}/static)
  build_against_package(${WORK}/static-moved ${WORK}/package)
elseif(MODE STREQUAL "subdirectory")
  set(build ${WORK}/subdirectory)
  run(${CMAKE_COMMAND} -S ${CMAKE_CURRENT_LIST_DIR} -B ${build} ${common} -DWEFT_SOURCE=${WEFT_SOURCE}
    -DBUILD_SHARED_LIBS=ON -DWEFT_INSTALL=ON -DWEFT_CUDA=OFF -DWEFT_ISAS= -DCMAKE_CXX_FLAGS_RELEASE=-O0
    -DWEFT_OPTIMISE_KERNELS=-O0 -DCMAKE_UNITY_BUILD=ON)  # to be quick
  run(${CMAKE_COMMAND} --build ${build})
  run(${CMAKE_COMMAND} -E chdir ${build} ./embed)
elseif(MODE STREQUAL "shared_package")
  set(DATA OFF)
  install_and_move(${WORK}/subdirectory ${WORK}/shared)
  build_against_package(${WORK}/shared-moved ${WORK}/shared_package)
else()
  message(FATAL_ERROR "MODE is package, subdirectory or shared_package, not '${MODE}'")
endif()
