#pragma once

// What an exception becomes before it would leave llama.cpp's C surface, where it ends the process.

#include "llama-impl.h"

#include "ggml.h"

#include <exception>
#include <new>

// Sets the flag again if what it was cleared for fails.
struct alora_again {
    bool & flag;
    const int n_exceptions = std::uncaught_exceptions();

    explicit alora_again(bool & flag) : flag(flag) {}
    ~alora_again() { flag = flag || std::uncaught_exceptions() > n_exceptions; }
};

// Logs it, and says whether memory ended.
inline bool alora_is_memory(const char * func, const std::exception & e) {
    const bool res = dynamic_cast<const std::bad_alloc *>(&e);
    if (res) {
        LLAMA_LOG_ERROR("%s: expected memory to compute in, got: %s\n", func, e.what());
    } else {
        LLAMA_LOG_ERROR("%s: %s\n", func, e.what());
    }
    return res;
}

inline ggml_status alora_status_of(const char * func, const std::exception & e) {
    return alora_is_memory(func, e) ? GGML_STATUS_ALLOC_FAILED : GGML_STATUS_FAILED;
}

// As of llama_decode: -2 nothing was computed for want of memory, -3 for another reason.
inline int32_t alora_result_of(const char * func, const std::exception & e) {
    return alora_is_memory(func, e) ? -2 : -3;
}
