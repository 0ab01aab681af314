#include "alora-system.h"

#include <new>

#ifdef _WIN32
#define WIN32_LEAN_AND_MEAN
#define NOMINMAX
#include <windows.h>
#else
#include <dlfcn.h>
#include <sys/mman.h>
#endif

std::filesystem::path alora_path(const std::string & path) {
    return std::filesystem::u8path(path);
}

#ifdef _WIN32

std::string alora_library_folder() {
    HMODULE self;
    if (!GetModuleHandleExW(GET_MODULE_HANDLE_EX_FLAG_FROM_ADDRESS | GET_MODULE_HANDLE_EX_FLAG_UNCHANGED_REFCOUNT,
            (LPCWSTR) (void *) alora_library_folder, &self)) {
        return "";
    }
    std::wstring path(32768, L'\0'); // the longest that Windows has
    path.resize(GetModuleFileNameW(self, &path[0], (DWORD) path.size()));
    return std::filesystem::path(path).parent_path().u8string();
}

alora_pages::alora_pages(size_t size) : data(VirtualAlloc(nullptr, size, MEM_RESERVE | MEM_COMMIT, PAGE_READWRITE)), size(size) {
    if (!data) {
        throw std::bad_alloc();
    }
}

alora_pages::~alora_pages() {
    VirtualFree(data, 0, MEM_RELEASE);
}

#else

std::string alora_library_folder() {
    Dl_info self;
    if (!dladdr((const void *) alora_library_folder, &self)) {
        return "";
    }
    const std::string path = self.dli_fname;
    const size_t slash = path.rfind('/');
    return slash == std::string::npos ? "." : path.substr(0, slash);
}

// A decode reads every adapter once, in pieces of some ten kilobytes: with small pages it gets two thirds of what
// memory has, with huge ones nearly all.
alora_pages::alora_pages(size_t size) : data(mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANON, -1, 0)), size(size) {
    if (data == MAP_FAILED) {
        throw std::bad_alloc();
    }
#ifdef MADV_HUGEPAGE
    madvise(data, size, MADV_HUGEPAGE);
#endif
}

alora_pages::~alora_pages() {
    munmap(data, size);
}

#endif
