# Included by the patched src/CMakeLists.txt of llama.cpp: our files become part of libllama.
set(ALORA_SOURCES
    ${CMAKE_CURRENT_LIST_DIR}/alora.cpp
    ${CMAKE_CURRENT_LIST_DIR}/alora-adapter.cpp
    ${CMAKE_CURRENT_LIST_DIR}/alora-adapter-file.cpp
    ${CMAKE_CURRENT_LIST_DIR}/alora-attention.cpp
    ${CMAKE_CURRENT_LIST_DIR}/alora-barrier.cpp
    ${CMAKE_CURRENT_LIST_DIR}/alora-cells.cpp
    ${CMAKE_CURRENT_LIST_DIR}/alora-context.cpp
    ${CMAKE_CURRENT_LIST_DIR}/alora-cpu.cpp
    ${CMAKE_CURRENT_LIST_DIR}/alora-fused.cpp
    ${CMAKE_CURRENT_LIST_DIR}/alora-graph.cpp
    ${CMAKE_CURRENT_LIST_DIR}/alora-memory.cpp
    ${CMAKE_CURRENT_LIST_DIR}/alora-rows.cpp
    ${CMAKE_CURRENT_LIST_DIR}/alora-sight.cpp
    ${CMAKE_CURRENT_LIST_DIR}/alora-system.cpp)
target_sources(llama PRIVATE ${ALORA_SOURCES})
if (NOT MSVC)
    set(ALORA_UNFUSED -ffp-contract=off)
    set(ALORA_WARNINGS -Wall -Wextra)
elseif (CMAKE_CXX_COMPILER_ID STREQUAL Clang) # clang-cl knows it by this name alone
    set(ALORA_UNFUSED /clang:-ffp-contract=off)
endif()
set_source_files_properties(${ALORA_SOURCES} PROPERTIES
    SKIP_UNITY_BUILD_INCLUSION ON COMPILE_OPTIONS "${ALORA_WARNINGS};${ALORA_UNFUSED}")
target_include_directories(llama PRIVATE ${CMAKE_CURRENT_LIST_DIR})

# the kernels for each instruction set; alora-cpu.cpp chooses among them at run time
set(ALORA_KERNELS scalar generic)
set(ALORA_FLAGS_scalar -DALORA_SCALAR) # what a compiler without vector extensions makes of any, for tests
if (CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64|amd64)$" AND NOT CMAKE_CXX_COMPILER_ID STREQUAL MSVC AND NOT CMAKE_OSX_ARCHITECTURES)
    list(APPEND ALORA_KERNELS avx2 avx512)
    set(ALORA_FLAGS_avx2 -mavx2 -mfma -mf16c)
    set(ALORA_FLAGS_avx512 ${ALORA_FLAGS_avx2} -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx512vnni)
    target_compile_definitions(llama PRIVATE ALORA_KERNELS_X86)
elseif (CMAKE_SYSTEM_PROCESSOR MATCHES "^(aarch64|arm64)$" AND NOT MSVC AND NOT CMAKE_OSX_ARCHITECTURES)
    list(APPEND ALORA_KERNELS dotprod)
    include(CheckCXXCompilerFlag)
    check_cxx_compiler_flag(-march=armv8.2-a+dotprod ALORA_TAKES_MARCH) # GCC does, zig does not
    set(ALORA_FLAGS_dotprod $<IF:$<BOOL:${ALORA_TAKES_MARCH}>,-march=armv8.2-a+dotprod,-mcpu=generic+dotprod>)
    target_compile_definitions(llama PRIVATE ALORA_KERNELS_ARM)
endif()
if ((CMAKE_CXX_COMPILER_ID STREQUAL GNU AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 9) OR CMAKE_CXX_COMPILER_ID STREQUAL MSVC)
    message(WARNING "${CMAKE_CXX_COMPILER_ID} ${CMAKE_CXX_COMPILER_VERSION}: expected GCC 9, clang 12 or newer, whose vectors the kernels are "
        "written in; adapters will be computed some hundred times slower, take another compiler with -DCMAKE_CXX_COMPILER=")
endif()
foreach (kernel ${ALORA_KERNELS})
    add_library(alora-kernel-${kernel} OBJECT
        ${CMAKE_CURRENT_LIST_DIR}/alora-kernel.cpp
        ${CMAKE_CURRENT_LIST_DIR}/alora-attention-kernel.cpp)
    target_compile_features(alora-kernel-${kernel} PRIVATE cxx_std_17)
    target_compile_definitions(alora-kernel-${kernel} PRIVATE
        ALORA_KERNEL_NAME=alora_kernel_${kernel} ALORA_ATTENTION_NAME=alora_attention_${kernel})
    target_compile_options(alora-kernel-${kernel} PRIVATE ${ALORA_FLAGS_${kernel}} ${ALORA_UNFUSED})
    target_include_directories(alora-kernel-${kernel} PRIVATE $<TARGET_PROPERTY:ggml,INTERFACE_INCLUDE_DIRECTORIES>)
    set_target_properties(alora-kernel-${kernel} PROPERTIES POSITION_INDEPENDENT_CODE ON)
    target_sources(llama PRIVATE $<TARGET_OBJECTS:alora-kernel-${kernel}>)
endforeach()
