# Generates the messages, services and actions that lie beside the including CMakeLists.txt.
# Wants INTERFACE_DEPENDENCIES: the message packages that the definitions name.
find_package(ament_cmake REQUIRED)
find_package(rosidl_default_generators REQUIRED)
foreach(dependency ${INTERFACE_DEPENDENCIES})
  find_package(${dependency} REQUIRED)
endforeach()

# The wheels' targets name include folders of the machine they were built on, and CMake refuses folders that do not exist.
get_property(imported DIRECTORY PROPERTY IMPORTED_TARGETS)
foreach(target ${imported})
  if(target MATCHES "__rosidl_generator_py$")
    set_target_properties(${target} PROPERTIES INTERFACE_INCLUDE_DIRECTORIES "")
  endif()
endforeach()

# Generated (de)serialisation: more optimisation costs set-up time and is not where messages of this size spend time.
add_compile_options(-O1)

file(GLOB definitions RELATIVE ${CMAKE_CURRENT_SOURCE_DIR} CONFIGURE_DEPENDS msg/*.msg srv/*.srv action/*.action)
rosidl_generate_interfaces(${PROJECT_NAME} ${definitions} DEPENDENCIES ${INTERFACE_DEPENDENCIES})
ament_export_dependencies(rosidl_default_runtime)
ament_package()
