# Lists kernels/activations/*.h into two generated headers: the names (for the enum) and the includes.
# identity comes first, so that a zeroed Activation means "none"; the rest is alphabetical.
file(GLOB activation_files CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/kernels/activations/*.h)
list(SORT activation_files)
set(names "")
set(includes "")
foreach(file IN LISTS activation_files)
  get_filename_component(name ${file} NAME_WE)
  string(APPEND includes "#include \"weft/kernels/activations/${name}.h\"\n")
  if(NOT name STREQUAL "identity")
    string(APPEND names " X(${name})")
  endif()
endforeach()
file(CONFIGURE OUTPUT ${WEFT_GENERATED}/weft/kernels/activation_names.h CONTENT
  "// Generated from kernels/activations/.\n#pragma once\n#define WEFT_FOR_EACH_ACTIVATION(X) X(identity)${names}\n" @ONLY)
file(CONFIGURE OUTPUT ${WEFT_GENERATED}/weft/kernels/activation_list.h CONTENT
  "// Generated from kernels/activations/.\n#pragma once\n#include \"weft/kernels/activation_names.h\"\n${includes}" @ONLY)
