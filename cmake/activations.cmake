# Lists kernels/activations/*.h into three generated headers: the names (for the enum), the includes, and the doc
# comments of the structs as strings. identity comes first, so that a zeroed Activation means "none"; the rest is
# alphabetical.
file(GLOB activation_files CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/kernels/activations/*.h)
list(SORT activation_files)
list(FILTER activation_files EXCLUDE REGEX "/identity\\.h$")
list(PREPEND activation_files ${CMAKE_CURRENT_SOURCE_DIR}/kernels/activations/identity.h)
set(names "")
set(includes "")
set(descriptions "")
foreach(file IN LISTS activation_files)
  get_filename_component(name ${file} NAME_WE)
  string(APPEND includes "#include \"weft/kernels/activations/${name}.h\"\n")
  string(APPEND names " X(${name})")
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${file})
  file(READ ${file} text)
  if(NOT text MATCHES "\n/// (${name}\\(x\\) = .*)\nstruct ${name} {\n")
    message(FATAL_ERROR "${file}: the doc comment of struct ${name} must start with \"/// ${name}(x) = \"")
  endif()
  string(REPLACE "\n/// " " " description "${CMAKE_MATCH_1}")
  string(REPLACE "\\" "\\\\" description "${description}")
  string(REPLACE "\"" "\\\"" description "${description}")
  string(APPEND descriptions " \\\n  \"${description}\",")
endforeach()
set(head "// Generated from kernels/activations/.\n#pragma once\n")
file(CONFIGURE OUTPUT ${WEFT_GENERATED}/weft/kernels/activation_names.h CONTENT
  "${head}#define WEFT_FOR_EACH_ACTIVATION(X)${names}\n" @ONLY)
file(CONFIGURE OUTPUT ${WEFT_GENERATED}/weft/kernels/activation_list.h CONTENT
  "${head}#include \"weft/kernels/activation_names.h\"\n${includes}" @ONLY)
file(CONFIGURE OUTPUT ${WEFT_GENERATED}/weft/kernels/activation_descriptions.h CONTENT
  "${head}#define WEFT_ACTIVATION_DESCRIPTIONS${descriptions}\n" @ONLY)
