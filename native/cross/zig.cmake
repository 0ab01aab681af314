# Another system's libraries by zig, a clang with the C libraries of many systems: what `make cross` builds with.
#
#     cmake -DCMAKE_TOOLCHAIN_FILE=native/cross/zig.cmake -DALORA_ZIG=.../zig -DALORA_TARGET=x86_64-windows-gnu
#
# The target is processor, system and C library, as zig has them (`zig targets`). macOS has neither Metal nor Accelerate
# here: Apple's frameworks come with Xcode alone.

list(APPEND CMAKE_TRY_COMPILE_PLATFORM_VARIABLES ALORA_ZIG ALORA_TARGET)
set(CMAKE_TRY_COMPILE_TARGET_TYPE STATIC_LIBRARY) # zig makes its C library for the first program of each set of options: minutes
if (NOT ALORA_TARGET MATCHES "^(x86_64|aarch64)-(windows|macos|linux)(-|$)")
    message(FATAL_ERROR "ALORA_TARGET: expected x86_64 or aarch64, then windows, macos or linux, got '${ALORA_TARGET}'")
endif()
set(CMAKE_SYSTEM_PROCESSOR ${CMAKE_MATCH_1})
set(alora_systems_windows Windows)
set(alora_systems_macos   Darwin)
set(alora_systems_linux   Linux)
set(CMAKE_SYSTEM_NAME ${alora_systems_${CMAKE_MATCH_2}})

set(CMAKE_C_COMPILER   ${ALORA_ZIG} cc  -target ${ALORA_TARGET})
set(CMAKE_CXX_COMPILER ${ALORA_ZIG} c++ -target ${ALORA_TARGET})

# CMake takes these as one program each
foreach (tool ar ranlib rc)
    set(file ${CMAKE_BINARY_DIR}/zig-${tool})
    file(CONFIGURE OUTPUT ${file} CONTENT "#!/bin/sh\nexec '${ALORA_ZIG}' ${tool} \"$@\"\n" @ONLY)
    file(CHMOD ${file} PERMISSIONS OWNER_READ OWNER_WRITE OWNER_EXECUTE)
    string(TOUPPER ${tool} name)
    set(CMAKE_${name} ${file})
endforeach()
set(CMAKE_RC_COMPILER ${CMAKE_RC})

# A DLL of zig's exports all that can be seen, atexit of its own C library as well, which those that are linked with it
# have too. So no more is seen than the headers have.
if (CMAKE_SYSTEM_NAME STREQUAL Windows)
    set(CMAKE_C_VISIBILITY_PRESET   hidden)
    set(CMAKE_CXX_VISIBILITY_PRESET hidden)
    set(CMAKE_VISIBILITY_INLINES_HIDDEN ON)
    set(file ${CMAKE_BINARY_DIR}/zig-exports.s)
    file(CONFIGURE OUTPUT ${file} CONTENT ".section .drectve,\"yni\"\n.ascii \" -exclude-symbols:atexit,_CRT_INIT\"\n" @ONLY)
    foreach (kind SHARED MODULE)
        set(CMAKE_${kind}_LINKER_FLAGS_INIT "\"${file}\"")
    endforeach()
endif()

set(CMAKE_INSTALL_NAME_TOOL true) # CMake will not do without; the names are right as they are linked

set(CMAKE_FIND_ROOT_PATH ${CMAKE_BINARY_DIR}/nothing) # no library or header of this machine
foreach (what LIBRARY INCLUDE PACKAGE)
    set(CMAKE_FIND_ROOT_PATH_MODE_${what} ONLY)
endforeach()
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
