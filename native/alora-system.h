#pragma once

// What each system has its own way for.

#include <cstddef>
#include <filesystem>
#include <string>

// A path in UTF-8, which on Windows is not what a char * is to the C library.
std::filesystem::path alora_path(const std::string & path);

// The folder, in UTF-8, of the library that this is part of; "" where the system does not say.
std::string alora_library_folder();

// Memory of the CPU's that goes back to the system with the adapter: malloc would keep some of it for later.
struct alora_pages {
    explicit alora_pages(size_t size); // throws std::bad_alloc
    ~alora_pages();

    alora_pages(const alora_pages &) = delete;
    alora_pages & operator=(const alora_pages &) = delete;

    void * const data;
    const size_t size;
};
