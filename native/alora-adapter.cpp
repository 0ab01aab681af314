#include "alora-adapter.h"

#include "ggml-alloc.h"
#include "ggml-backend.h"
#include "ggml-cpp.h"
#include "gguf.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <fstream>
#include <new>

#ifndef _WIN32
#include <sys/mman.h>
#endif

// An index, or a handle that a caller cut to an int, is none of these.
static std::atomic<uint64_t> next_id { (1ull << 32) + 1 };

[[noreturn]] static void refuse(alora_status status, const std::string & path, const std::string & what) {
    throw alora_error(status, path + ": " + what);
}

static std::string shape_of(const ggml_tensor * t) {
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
// shapes
//

static bool has_shape(const ggml_tensor * t, int64_t ne0, int64_t ne1, int64_t ne2) {
    return t->ne[0] == ne0 && t->ne[1] == ne1 && t->ne[2] == ne2 && t->ne[3] == 1;
}

static int64_t rank_of(alora_role role, const ggml_tensor * a) {
    return role == ALORA_ROLE_ROWS ? a->ne[0] : a->ne[1];
}

static bool fits(alora_role role, const ggml_tensor * w, const ggml_tensor * a, const ggml_tensor * b) {
    const int64_t r = rank_of(role, a);
    switch (role) {
        case ALORA_ROLE_MATRIX:  return w->ne[2] == 1 && has_shape(a, w->ne[0], r, 1) && has_shape(b, r, w->ne[1], 1);
        case ALORA_ROLE_EXPERTS: return has_shape(a, w->ne[0], r, w->ne[2]) && has_shape(b, r, w->ne[1], w->ne[2]);
        case ALORA_ROLE_ROWS:    return has_shape(a, r, w->ne[1], 1) && has_shape(b, r, w->ne[0], 1);
    }
    return false;
}

static std::string expected_shapes(alora_role role, const ggml_tensor * w) {
    const std::string in = std::to_string(w->ne[0]), out = std::to_string(w->ne[1]), n = std::to_string(w->ne[2]);
    switch (role) {
        case ALORA_ROLE_MATRIX:  return "lora_a [" + in + ", r] and lora_b [r, " + out + "]";
        case ALORA_ROLE_EXPERTS: return "lora_a [" + in + ", r, " + n + "] and lora_b [r, " + out + ", " + n + "]";
        case ALORA_ROLE_ROWS:    return "lora_a [r, " + out + "] and lora_b [r, " + in + "]";
    }
    return "";
}

// The weight that the pair `name` adapts. A tied output head has no tensor of its own: its
// pair is called output.weight and adapts the matrix use of the token embeddings.
static alora_weights::const_iterator find_weight(
        const alora_weights & weights, const std::string & path, const std::string & name,
        const ggml_tensor * a, const ggml_tensor * b) {
    auto known = weights.end();
    for (const auto & key_name : { name, std::string(name == "output.weight" ? "token_embd.weight" : "") }) {
        for (auto role : { ALORA_ROLE_ROWS, ALORA_ROLE_MATRIX, ALORA_ROLE_EXPERTS }) {
            if (key_name != name && role != ALORA_ROLE_MATRIX) {
                continue;
            }
            const auto it = weights.find({ key_name, role });
            if (it == weights.end() || !it->second.tensor) {
                continue;
            }
            if (fits(role, it->second.tensor, a, b)) {
                return it;
            }
            known = it;
        }
        if (known != weights.end()) {
            break;
        }
    }
    if (known == weights.end()) {
        refuse(ALORA_ERROR_MISMATCH, path, "tensor '" + name + "': expected a weight that this model multiplies through its "
                "adapted paths, got a name that is none; use the base model that the adapter was made for");
    }
    refuse(ALORA_ERROR_MISMATCH, path, "tensor '" + name + "': expected " + expected_shapes(known->first.second, known->second.tensor) +
            ", got " + shape_of(a) + " and " + shape_of(b) + "; use the base model that the adapter was made for");
}

//
// metadata
//

static int64_t find_key(const gguf_context * gguf, const std::string & path, const char * key, gguf_type type) {
    const int64_t id = gguf_find_key(gguf, key);
    if (id < 0) {
        refuse(ALORA_ERROR_FILE, path, std::string("key '") + key + "': expected " + gguf_type_name(type) +
                ", got nothing; convert the adapter again");
    }
    if (gguf_get_kv_type(gguf, id) != type) {
        refuse(ALORA_ERROR_FILE, path, std::string("key '") + key + "': expected " + gguf_type_name(type) +
                ", got " + gguf_type_name(gguf_get_kv_type(gguf, id)) + "; convert the adapter again");
    }
    return id;
}

static void check_str(const gguf_context * gguf, const std::string & path, const char * key, const std::string & expected, alora_status status) {
    const std::string got = gguf_get_val_str(gguf, find_key(gguf, path, key, GGUF_TYPE_STRING));
    if (got != expected) {
        refuse(status, path, std::string("key '") + key + "': expected '" + expected + "', got '" + got + "'; " +
                (status == ALORA_ERROR_MISMATCH ? "use the base model that the adapter was made for" : "this is not a LoRA adapter"));
    }
}

//
// data
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

// Its data lie in the file: before anything of its size is allocated. Returns where.
static uint64_t find_data(const gguf_context * gguf, const std::string & path, uint64_t file_size, const ggml_tensor * t) {
    const uint64_t offset = gguf_get_data_offset(gguf) + gguf_get_tensor_offset(gguf, gguf_find_tensor(gguf, t->name));
    if (offset > file_size || ggml_nbytes(t) > file_size - offset) {
        refuse(ALORA_ERROR_FILE, path, std::string("tensor '") + t->name + "': expected the bytes of " + shape_of(t) + " at offset " +
                std::to_string(offset) + ", got a file of " + std::to_string(file_size) + " bytes; it is cut short, copy it again");
    }
    return offset;
}

static void check_type(const std::string & path, const ggml_tensor * t, bool is_vector) {
    if (is_vector && t->type != GGML_TYPE_F32) {
        refuse(ALORA_ERROR_FILE, path, std::string("tensor '") + t->name + "': expected f32, got " + ggml_type_name(t->type) +
                "; convert the adapter again");
    }
    switch (t->type) {
        case GGML_TYPE_F32: case GGML_TYPE_F16: case GGML_TYPE_BF16: case GGML_TYPE_Q8_0:
            return;
        default:
            refuse(ALORA_ERROR_FILE, path, std::string("tensor '") + t->name + "': expected f32, f16, bf16 or q8_0, got " +
                    ggml_type_name(t->type) + "; convert the adapter with another --outtype");
    }
}

//
// devices
//

// An adapter lies where its weight lies, but for the CPU's repacking buffers: those take only
// weights whose layout they rewrite.
static ggml_backend_buffer_type_t buft_for(const ggml_tensor * w) {
    auto * buft = ggml_backend_buffer_get_type(w->buffer);
    auto * cpu  = ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU);
    auto * get_extra_bufts = (ggml_backend_dev_get_extra_bufts_t)
        ggml_backend_reg_get_proc_address(ggml_backend_dev_backend_reg(cpu), "ggml_backend_dev_get_extra_bufts");
    auto * extra = get_extra_bufts ? get_extra_bufts(cpu) : nullptr;
    for (; extra && *extra; ++extra) {
        if (*extra == buft) {
            return ggml_backend_dev_buffer_type(cpu);
        }
    }
    return buft;
}

#ifndef _WIN32

// A decode reads every adapter once, in pieces of some ten kilobytes: with pages of 4 KiB it gets
// 20 GB/s of the 31 that memory has, with huge ones 28.
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

static bool is_cpu(ggml_backend_buffer_type_t buft) {
    auto * dev = ggml_backend_buft_get_device(buft);
    return ggml_backend_buft_is_host(buft) && (!dev || ggml_backend_dev_type(dev) == GGML_BACKEND_DEVICE_TYPE_CPU);
}

#endif

ggml_backend_buffer_t alora_adapter::alloc(ggml_context * ctx, ggml_backend_buffer_type_t buft) {
#ifndef _WIN32
    if (is_cpu(buft)) {
        size_t size = 0;
        for (auto * t = ggml_get_first_tensor(ctx); t; t = ggml_get_next_tensor(ctx, t)) {
            size += GGML_PAD(ggml_nbytes(t), ggml_backend_buft_get_alignment(buft));
        }
        pages.push_back(std::make_unique<alora_pages>(size));
        auto * buf = ggml_backend_cpu_buffer_from_ptr(pages.back()->data, size);
        auto tensors = ggml_tallocr_new(buf);
        for (auto * t = ggml_get_first_tensor(ctx); t; t = ggml_get_next_tensor(ctx, t)) {
            ggml_tallocr_alloc(&tensors, t);
        }
        return buf;
    }
#endif
    return ggml_backend_alloc_ctx_tensors_from_buft(ctx, buft);
}

//
// alora_adapter
//

alora_adapter::alora_adapter(const char * path_, const char * arch, const alora_weights & weights) : id(next_id++), path(path_) {
    std::ifstream file(path, std::ios::binary | std::ios::ate);
    if (!file) {
        refuse(ALORA_ERROR_FILE, path, std::string("expected a GGUF file, got: ") + strerror(errno));
    }
    const uint64_t file_size = (uint64_t) file.tellg();

    // sizes first: ggml ends the process when it makes a tensor of more elements than there are numbers
    gguf_context_ptr sizes { gguf_init_from_file(path_, { /*.no_alloc =*/ true, /*.ctx =*/ nullptr }) };
    for (int64_t i = 0; sizes && i < gguf_get_n_tensors(sizes.get()); ++i) {
        const uint64_t size = gguf_get_tensor_size(sizes.get(), i);
        if (size == 0 || size > file_size) {
            refuse(ALORA_ERROR_FILE, path, std::string("tensor '") + gguf_get_tensor_name(sizes.get(), i) + "': expected data in the file, got " +
                    std::to_string(size) + " bytes; it is cut short or damaged, convert the adapter again");
        }
    }

    ggml_context * meta_raw = nullptr;
    gguf_context_ptr gguf { gguf_init_from_file(path_, { /*.no_alloc =*/ true, /*.ctx =*/ &meta_raw }) };
    ggml_context_ptr meta { meta_raw };
    if (!gguf) {
        refuse(ALORA_ERROR_FILE, path, "expected a GGUF file, got something else or a damaged one; convert the adapter again");
    }

    check_str(gguf.get(), path, "general.type",         "adapter", ALORA_ERROR_FILE);
    check_str(gguf.get(), path, "adapter.type",         "lora",    ALORA_ERROR_FILE);
    check_str(gguf.get(), path, "general.architecture", arch,      ALORA_ERROR_MISMATCH);

    const float alpha = gguf_get_val_f32(gguf.get(), find_key(gguf.get(), path, "adapter.lora.alpha", GGUF_TYPE_FLOAT32));
    if (!std::isfinite(alpha)) {
        refuse(ALORA_ERROR_FILE, path, "key 'adapter.lora.alpha': expected a finite number, got another; convert the adapter again");
    }

    // the file's tensors, by the weight's name
    struct file_pair {
        std::map<std::string, ggml_tensor *> tensors; // by suffix
        ggml_tensor * get(const char * suffix) const { const auto it = tensors.find(suffix); return it == tensors.end() ? nullptr : it->second; }
    };
    std::map<std::string, file_pair> file_pairs;
    for (auto * t = ggml_get_first_tensor(meta.get()); t; t = ggml_get_next_tensor(meta.get(), t)) {
        const std::string name = t->name;
        const size_t dot = name.rfind('.');
        const std::string suffix = dot == std::string::npos ? "" : name.substr(dot);
        const bool is_vector = suffix == ".lora_bias" || suffix == ".lora_magnitude";
        if (suffix != ".lora_a" && suffix != ".lora_b" && !is_vector) {
            refuse(ALORA_ERROR_FILE, path, "tensor '" + name + "': expected a name that ends in .lora_a, .lora_b, .lora_bias or "
                    ".lora_magnitude, got another; this adapter has tensors that cannot be applied");
        }
        check_type(path, t, is_vector);
        find_data(gguf.get(), path, file_size, t);
        file_pairs[name.substr(0, dot)].tensors[suffix] = t;
    }
    if (file_pairs.empty()) {
        refuse(ALORA_ERROR_FILE, path, "expected lora_a and lora_b tensors, got none; convert the adapter again");
    }

    // one context of tensors a buffer type
    std::map<ggml_backend_buffer_type_t, ggml_context *> ctx_of;
    const auto ctx_for = [&](ggml_backend_buffer_type_t buft) {
        auto & ctx = ctx_of[buft];
        if (!ctx) {
            ctx = ggml_init({ /*.mem_size =*/ 5*file_pairs.size()*ggml_tensor_overhead(), /*.mem_buffer =*/ nullptr, /*.no_alloc =*/ true });
            if (!ctx) {
                refuse(ALORA_ERROR_MEMORY, path, "expected memory for its tensors, got none");
            }
            ctxs.emplace_back(ctx);
        }
        return ctx;
    };

    const auto block_of = [&](alora_block block) {
        auto it = std::find(blocks.begin(), blocks.end(), block);
        if (it == blocks.end()) {
            it = blocks.insert(it, block);
        }
        return (size_t) (it - blocks.begin());
    };

    // from the file's to the device's, minus a number
    struct copy { ggml_tensor * src; ggml_tensor * dst; float minus; };
    std::vector<copy> copies;

    for (const auto & [name, fp] : file_pairs) {
        auto * a = fp.get(".lora_a");
        auto * b = fp.get(".lora_b");
        if (!a || !b) {
            refuse(ALORA_ERROR_FILE, path, "tensor '" + name + "': expected a lora_a and a lora_b, got only " +
                    (fp.tensors.begin()->first.substr(1)) + "; convert the adapter again");
        }
        const auto weight = find_weight(weights, path, name, a, b);
        const auto role   = weight->first.second;
        auto * ctx = ctx_for(buft_for(weight->second.tensor));

        const auto add = [&](ggml_tensor * src, float minus = 0.0f) -> ggml_tensor * {
            auto * dst = ggml_dup_tensor(ctx, src);
            ggml_set_name(dst, src->name);
            copies.push_back({ src, dst, minus });
            return dst;
        };
        const auto vector = [&, &fp = fp](const char * suffix) {
            auto * src = fp.get(suffix);
            if (src && role == ALORA_ROLE_EXPERTS) {
                refuse(ALORA_ERROR_MISMATCH, path, std::string("tensor '") + src->name + "': expected no such vector for experts, got one; "
                        "it cannot be applied");
            }
            if (src && !has_shape(src, b->ne[1], 1, 1)) {
                refuse(ALORA_ERROR_MISMATCH, path, std::string("tensor '") + src->name + "': expected [" + std::to_string(b->ne[1]) +
                        "], got " + shape_of(src) + "; convert the adapter again");
            }
            return src;
        };

        const int64_t rank  = rank_of(role, a);
        const float   scale = alpha == 0.0f ? 1.0f : alpha/(float) rank;

        alora_pair pair;
        pair.a     = add(a);
        pair.b     = add(b);
        pair.block = block_of({ rank, scale, false });
        if (auto * bias = vector(".lora_bias")) {
            pair.bias       = add(bias);
            pair.block_bias = block_of({ 1, scale, false });
        }
        if (auto * magnitude = vector(".lora_magnitude")) {
            pair.magnitude   = add(magnitude);
            pair.magnitude_1 = add(magnitude, 1.0f);
            pair.block_mask  = block_of({ 1, 1.0f, true });
        }
        if (!pairs.emplace(weight->first, pair).second) {
            refuse(ALORA_ERROR_FILE, path, "tensor '" + name + "': expected one pair for this weight, got two; convert the adapter again");
        }
    }

    for (const auto & [buft, ctx] : ctx_of) {
        ggml_backend_buffer_ptr buf { alloc(ctx, buft) };
        if (!buf) {
            refuse(ALORA_ERROR_MEMORY, path, std::string("expected memory on ") + ggml_backend_buft_name(buft) + " for its tensors, got none");
        }
        // so that the scheduler multiplies by them where they are, as it does with the base's weights
        ggml_backend_buffer_set_usage(buf.get(), GGML_BACKEND_BUFFER_USAGE_WEIGHTS);
        bufs.emplace_back(std::move(buf));
    }

    std::vector<uint8_t> data;
    for (const auto & [src, dst, minus] : copies) {
        const uint64_t size = ggml_nbytes(src);
        const bool in_place = ggml_backend_buffer_is_host(dst->buffer);
        data.resize(in_place ? 0 : size);
        auto * into = in_place ? (uint8_t *) dst->data : data.data();
        file.seekg((std::streamoff) find_data(gguf.get(), path, file_size, src));
        if (!file.read((char *) into, (std::streamsize) size)) {
            refuse(ALORA_ERROR_FILE, path, std::string("tensor '") + src->name + "': expected to read " + std::to_string(size) + " bytes, got: " + strerror(errno));
        }
        if (!all_finite(src, into, size)) {
            refuse(ALORA_ERROR_FILE, path, std::string("tensor '") + src->name + "': expected finite values, got NaN or infinity; the adapter is damaged");
        }
        if (minus != 0.0f) {
            float * x = (float *) into;
            std::transform(x, x + size/sizeof(float), x, [minus = minus](float v) { return v - minus; });
        }
        if (!in_place) {
            ggml_backend_tensor_set(dst, data.data(), 0, size);
        }
    }
}

std::vector<const alora_pair *> alora_adapter::resolve(const alora_weights & weights) const {
    std::vector<const alora_pair *> res(weights.size(), nullptr);
    for (const auto & [key, pair] : pairs) {
        const auto it = weights.find(key);
        if (it == weights.end() || !it->second.tensor || !fits(key.second, it->second.tensor, pair.a, pair.b)) {
            refuse(ALORA_ERROR_MISMATCH, path, "tensor '" + key.first + "': expected a weight of this shape in the context's model, got none; "
                    "load the adapter with a context of this model");
        }
        res[it->second.index] = &pair;
    }
    return res;
}

uint32_t alora_adapter::n_nodes() const {
    uint32_t res = 0;
    for (const auto & [_, pair] : pairs) {
        res += 12u + (pair.bias ? 5u : 0u) + (pair.magnitude ? 8u : 0u);
    }
    return res;
}

uint64_t alora_adapter::n_bytes() const {
    uint64_t res = 0;
    for (const auto & buf : bufs) {
        res += ggml_backend_buffer_get_size(buf.get());
    }
    return res;
}
