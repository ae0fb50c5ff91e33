# `cmake --install`: the library, its public headers under include/weft, and the package that find_package(weft) finds.
# The tests compile each header of the same list alone.
set(header_folders kernels kernels/activations kernels/activations/learned kernels/activations/random kernels/updates
  engine engine/ops layers optim optim/optimizers optim/training)
if(WEFT_DATA)
  list(APPEND header_folders engine/data)
endif()
set(WEFT_PUBLIC_HEADERS "")
foreach(folder IN LISTS header_folders)
  file(GLOB found CONFIGURE_DEPENDS RELATIVE ${CMAKE_CURRENT_SOURCE_DIR} ${CMAKE_CURRENT_SOURCE_DIR}/${folder}/*.h)
  list(APPEND WEFT_PUBLIC_HEADERS ${found})
endforeach()
if(NOT WEFT_INSTALL)
  return()
endif()

include(CMakePackageConfigHelpers)
foreach(header IN LISTS WEFT_PUBLIC_HEADERS)
  get_filename_component(folder ${header} DIRECTORY)
  install(FILES ${header} DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/weft/${folder})
endforeach()
install(DIRECTORY ${WEFT_GENERATED}/weft DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.h")

set(installed_targets weft)
if(WEFT_DATA)
  list(APPEND installed_targets weft_data)
endif()
install(TARGETS ${installed_targets} EXPORT weftTargets
  ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR} LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}
  RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})

set(package_folder ${CMAKE_INSTALL_LIBDIR}/cmake/weft)
install(EXPORT weftTargets NAMESPACE weft:: DESTINATION ${package_folder})
configure_package_config_file(cmake/weftConfig.cmake.in ${CMAKE_CURRENT_BINARY_DIR}/weftConfig.cmake
  INSTALL_DESTINATION ${package_folder})
# Before 1.0 a new minor version may change the interface.
write_basic_package_version_file(${CMAKE_CURRENT_BINARY_DIR}/weftConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/weftConfig.cmake ${CMAKE_CURRENT_BINARY_DIR}/weftConfigVersion.cmake
  DESTINATION ${package_folder})
