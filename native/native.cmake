# Included by the patched src/CMakeLists.txt of llama.cpp: our files become part of libllama.
set(ALORA_SOURCES
    ${CMAKE_CURRENT_LIST_DIR}/alora.cpp
    ${CMAKE_CURRENT_LIST_DIR}/alora-adapter.cpp
    ${CMAKE_CURRENT_LIST_DIR}/alora-context.cpp
    ${CMAKE_CURRENT_LIST_DIR}/alora-graph.cpp)
target_sources(llama PRIVATE ${ALORA_SOURCES})
set_source_files_properties(${ALORA_SOURCES} PROPERTIES SKIP_UNITY_BUILD_INCLUSION ON COMPILE_OPTIONS "$<$<NOT:$<CXX_COMPILER_ID:MSVC>>:-Wall;-Wextra>")
target_include_directories(llama PRIVATE ${CMAKE_CURRENT_LIST_DIR})
