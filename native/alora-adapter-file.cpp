#include "alora-adapter-file.h"

#include "ggml-cpp.h"

#include <cerrno>
#include <cmath>
#include <cstring>

void alora_refuse(alora_status status, const std::string & path, const std::string & what) {
    throw alora_error(status, path + ": " + what);
}

std::string alora_shape_of(const ggml_tensor * t) {
    int n_dims = GGML_MAX_DIMS;
    while (n_dims > 1 && t->ne[n_dims - 1] == 1) { // unlike ggml_n_dims, a dimension of 0 is one
        n_dims--;
    }
    std::string res = "[";
    for (int i = 0; i < n_dims; ++i) {
        res += (i ? ", " : "") + std::to_string(t->ne[i]);
    }
    return res + "]";
}

//
// metadata
//

int64_t alora_adapter_file::find_key(const char * key, gguf_type type) const {
    const int64_t id = gguf_find_key(gguf.get(), key);
    if (id < 0) {
        alora_refuse(ALORA_ERROR_FILE, path, std::string("key '") + key + "': expected " + gguf_type_name(type) +
                ", got nothing; convert the adapter again");
    }
    if (gguf_get_kv_type(gguf.get(), id) != type) {
        alora_refuse(ALORA_ERROR_FILE, path, std::string("key '") + key + "': expected " + gguf_type_name(type) +
                ", got " + gguf_type_name(gguf_get_kv_type(gguf.get(), id)) + "; convert the adapter again");
    }
    return id;
}

void alora_adapter_file::check_str(const char * key, const std::string & expected, alora_status status) const {
    const std::string got = gguf_get_val_str(gguf.get(), find_key(key, GGUF_TYPE_STRING));
    if (got != expected) {
        alora_refuse(status, path, std::string("key '") + key + "': expected '" + expected + "', got '" + got + "'; " +
                (status == ALORA_ERROR_MISMATCH ? "use the base model that the adapter was made for" : "this is not a LoRA adapter"));
    }
}

// Before any tensor is made: ggml ends the process over one of more elements than there are numbers.
void alora_adapter_file::check_sizes() const {
    gguf_context_ptr sizes { gguf_init_from_file(path.c_str(), { /*.no_alloc =*/ true, /*.ctx =*/ nullptr }) };
    for (int64_t i = 0; sizes && i < gguf_get_n_tensors(sizes.get()); ++i) {
        const uint64_t n_bytes = gguf_get_tensor_size(sizes.get(), i);
        if (n_bytes == 0 || n_bytes > size) {
            alora_refuse(ALORA_ERROR_FILE, path, std::string("tensor '") + gguf_get_tensor_name(sizes.get(), i) + "': expected data in the file, got " +
                    std::to_string(n_bytes) + " bytes; it is cut short or damaged, convert the adapter again");
        }
    }
}

//
// tensors
//

uint64_t alora_adapter_file::find_data(const ggml_tensor * t) const {
    const uint64_t offset = gguf_get_data_offset(gguf.get()) + gguf_get_tensor_offset(gguf.get(), gguf_find_tensor(gguf.get(), t->name));
    if (offset > size || ggml_nbytes(t) > size - offset) {
        alora_refuse(ALORA_ERROR_FILE, path, std::string("tensor '") + t->name + "': expected the bytes of " + alora_shape_of(t) + " at offset " +
                std::to_string(offset) + ", got a file of " + std::to_string(size) + " bytes; it is cut short, copy it again");
    }
    return offset;
}

static void check_type(const std::string & path, const ggml_tensor * t, bool is_vector) {
    if (is_vector && t->type != GGML_TYPE_F32) {
        alora_refuse(ALORA_ERROR_FILE, path, std::string("tensor '") + t->name + "': expected f32, got " + ggml_type_name(t->type) +
                "; convert the adapter again");
    }
    switch (t->type) {
        case GGML_TYPE_F32: case GGML_TYPE_F16: case GGML_TYPE_BF16: case GGML_TYPE_Q8_0:
            return;
        default:
            alora_refuse(ALORA_ERROR_FILE, path, std::string("tensor '") + t->name + "': expected f32, f16, bf16 or q8_0, got " +
                    ggml_type_name(t->type) + "; convert the adapter with another --outtype");
    }
}

void alora_adapter_file::add(ggml_tensor * t) {
    const std::string name = t->name;
    const size_t dot = name.rfind('.');
    const std::string suffix = dot == std::string::npos ? "" : name.substr(dot);
    const bool is_vector = suffix == ".lora_bias" || suffix == ".lora_magnitude";
    if (suffix != ".lora_a" && suffix != ".lora_b" && !is_vector) {
        alora_refuse(ALORA_ERROR_FILE, path, "tensor '" + name + "': expected a name that ends in .lora_a, .lora_b, .lora_bias or "
                ".lora_magnitude, got another; this adapter has tensors that cannot be applied");
    }
    check_type(path, t, is_vector);
    find_data(t);
    auto & p = pairs[name.substr(0, dot)];
    (suffix == ".lora_a" ? p.a : suffix == ".lora_b" ? p.b : suffix == ".lora_bias" ? p.bias : p.magnitude) = t;
}

alora_adapter_file::alora_adapter_file(const std::string & path, const char * arch) : path(path), file(alora_path(path), std::ios::binary | std::ios::ate) {
    if (!file) {
        alora_refuse(ALORA_ERROR_FILE, path, std::string("expected a GGUF file, got: ") + strerror(errno));
    }
    size = (uint64_t) file.tellg();
    check_sizes();

    ggml_context * meta_raw = nullptr;
    gguf.reset(gguf_init_from_file(path.c_str(), { /*.no_alloc =*/ true, /*.ctx =*/ &meta_raw }));
    meta.reset(meta_raw);
    if (!gguf) {
        alora_refuse(ALORA_ERROR_FILE, path, "expected a GGUF file, got something else or a damaged one; convert the adapter again");
    }

    check_str("general.type",         "adapter", ALORA_ERROR_FILE);
    check_str("adapter.type",         "lora",    ALORA_ERROR_FILE);
    check_str("general.architecture", arch,      ALORA_ERROR_MISMATCH);

    alpha = gguf_get_val_f32(gguf.get(), find_key("adapter.lora.alpha", GGUF_TYPE_FLOAT32));
    if (!std::isfinite(alpha)) {
        alora_refuse(ALORA_ERROR_FILE, path, "key 'adapter.lora.alpha': expected a finite number, got another; convert the adapter again");
    }

    for (auto * t = ggml_get_first_tensor(meta.get()); t; t = ggml_get_next_tensor(meta.get(), t)) {
        add(t);
    }
    if (pairs.empty()) {
        alora_refuse(ALORA_ERROR_FILE, path, "expected lora_a and lora_b tensors, got none; convert the adapter again");
    }
    for (const auto & [name, p] : pairs) {
        if (!p.a || !p.b) {
            alora_refuse(ALORA_ERROR_FILE, path, "tensor '" + name + "': expected a lora_a and a lora_b, got only " +
                    (p.a ? "lora_a" : p.b ? "lora_b" : p.bias ? "lora_bias" : "lora_magnitude") + "; convert the adapter again");
        }
    }
}

//
// values
//

static bool all_finite(const ggml_tensor * t, const uint8_t * data, size_t size) {
    // no way out of the loops, so that they are vectorised: they are half of what loading takes
    const auto finite_16 = [&](size_t stride, uint16_t exponent) {
        bool res = true;
        for (size_t i = 0; i + stride <= size; i += stride) {
            uint16_t bits;
            memcpy(&bits, data + i, sizeof(bits));
            res &= (bits & exponent) != exponent;
        }
        return res;
    };
    switch (t->type) {
        case GGML_TYPE_F32: {
            bool res = true;
            for (size_t i = 0; i < size; i += sizeof(uint32_t)) {
                uint32_t bits;
                memcpy(&bits, data + i, sizeof(bits));
                res &= (bits & 0x7f800000) != 0x7f800000;
            }
            return res;
        }
        case GGML_TYPE_F16:  return finite_16(sizeof(uint16_t), 0x7c00);
        case GGML_TYPE_BF16: return finite_16(sizeof(uint16_t), 0x7f80);
        case GGML_TYPE_Q8_0: return finite_16(ggml_type_size(GGML_TYPE_Q8_0), 0x7c00); // a block begins with its f16 scale
        default:             return false;
    }
}

void alora_adapter_file::read(const ggml_tensor * t, uint8_t * into) {
    const uint64_t n_bytes = ggml_nbytes(t);
    file.seekg((std::streamoff) find_data(t));
    if (!file.read((char *) into, (std::streamsize) n_bytes)) {
        alora_refuse(ALORA_ERROR_FILE, path, std::string("tensor '") + t->name + "': expected to read " + std::to_string(n_bytes) + " bytes, got: " + strerror(errno));
    }
    if (!all_finite(t, into, n_bytes)) {
        alora_refuse(ALORA_ERROR_FILE, path, std::string("tensor '") + t->name + "': expected finite values, got NaN or infinity; the adapter is damaged");
    }
}
