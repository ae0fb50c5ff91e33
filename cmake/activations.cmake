# Lists kernels/activations/*.h, learned/*.h and random/*.h into three generated headers: the names (for the enum), the
# includes, and the doc comments of the structs as strings. identity comes first, so that a zeroed Activation means
# "none"; the rest of each folder is alphabetical.

# Writes the text in a variable as it stands between the quotes of a string in C.
macro(weft_c_string variable)
  string(REPLACE "\\" "\\\\" ${variable} "${${variable}}")
  string(REPLACE "\"" "\\\"" ${variable} "${${variable}}")
endmacro()

set(includes "")
set(descriptions "")
# Lists a folder; NAMES becomes the names of its structs as " X(a) X(b)".
function(weft_list_activations folder NAMES)
  file(GLOB files CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/${folder}/*.h)
  list(SORT files)
  set(identity ${CMAKE_CURRENT_SOURCE_DIR}/${folder}/identity.h)
  if(identity IN_LIST files)
    list(REMOVE_ITEM files ${identity})
    list(PREPEND files ${identity})
  endif()
  set(names "")
  foreach(file IN LISTS files)
    get_filename_component(name ${file} NAME_WE)
    string(APPEND includes "#include \"weft/${folder}/${name}.h\"\n")
    string(APPEND names " X(${name})")
    set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${file})
    file(READ ${file} text)
    if(NOT text MATCHES "\n/// (${name}\\(x\\) = .*)\nstruct ${name} {\n")
      message(FATAL_ERROR "${file}: the doc comment of struct ${name} must start with \"/// ${name}(x) = \"")
    endif()
    string(REPLACE "\n/// " " " description "${CMAKE_MATCH_1}")
    weft_c_string(description)
    string(APPEND descriptions " \\\n  \"${description}\",")
  endforeach()
  set(${NAMES} "${names}" PARENT_SCOPE)
  set(includes "${includes}" PARENT_SCOPE)
  set(descriptions "${descriptions}" PARENT_SCOPE)
endfunction()
weft_list_activations(kernels/activations fixed)
weft_list_activations(kernels/activations/learned learned)
weft_list_activations(kernels/activations/random random)
set(head "// Generated from kernels/activations/.\n#pragma once\n")
file(CONFIGURE OUTPUT ${WEFT_GENERATED}/weft/kernels/activation_names.h CONTENT
  "${head}#define WEFT_FOR_EACH_ACTIVATION(X)${fixed}\n#define WEFT_FOR_EACH_LEARNED_ACTIVATION(X)${learned}\n#define WEFT_FOR_EACH_RANDOM_ACTIVATION(X)${random}\n" @ONLY)
file(CONFIGURE OUTPUT ${WEFT_GENERATED}/weft/kernels/activation_list.h CONTENT
  "${head}#include \"weft/kernels/activation_names.h\"\n${includes}" @ONLY)
file(CONFIGURE OUTPUT ${WEFT_GENERATED}/weft/kernels/activation_descriptions.h CONTENT
  "${head}#define WEFT_ACTIVATION_DESCRIPTIONS${descriptions}\n" @ONLY)
