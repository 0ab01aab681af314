#pragma once

// An adapter's file: a GGUF whose tensors are the parts of pairs. What it says is believed only after it was checked,
// because ggml ends the process over much that a file can say.

#include "alora-adapter.h"

#include "gguf.h"

#include <fstream>

class alora_adapter_file {
public:
    // What the file has for one weight: lora_a and lora_b, and nullptr for what it has not.
    // Their shapes are the file's own word.
    struct pair {
        ggml_tensor * a         = nullptr;
        ggml_tensor * b         = nullptr;
        ggml_tensor * bias      = nullptr;
        ggml_tensor * magnitude = nullptr;
    };

    // Reads and checks all but the values. Throws alora_error, also for an adapter of another architecture.
    alora_adapter_file(const std::string & path, const char * arch);

    // The values of one of its tensors, ggml_nbytes(t) of them. Throws alora_error if they cannot be read or are not finite.
    void read(const ggml_tensor * t, uint8_t * into);

    const std::string path;

    float alpha = 0.0f;
    std::map<std::string, pair> pairs; // by the weight's name

private:
    uint64_t find_data(const ggml_tensor * t) const; // its offset; throws unless it lies in the file

    void check_sizes() const;
    void check_str(const char * key, const std::string & expected, alora_status status) const;
    int64_t find_key(const char * key, gguf_type type) const;
    void add(ggml_tensor * t);

    std::ifstream    file;
    uint64_t         size = 0;
    gguf_context_ptr gguf;
    ggml_context_ptr meta; // the tensors, without data
};

// Throws alora_error.
[[noreturn]] void alora_refuse(alora_status status, const std::string & path, const std::string & what);

// "[n_in, r]"
std::string alora_shape_of(const ggml_tensor * t);
