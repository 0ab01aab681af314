#include "alora-adapter.h"

#include "alora-adapter-file.h"

#include "ggml-alloc.h"
#include "ggml-backend.h"
#include "ggml-cpp.h"

#include <algorithm>
#include <atomic>
#include <new>

// An index, or a handle that a caller cut to an int, is none of these.
static std::atomic<uint64_t> next_id { (1ull << 32) + 1 };

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
        alora_refuse(ALORA_ERROR_MISMATCH, path, "tensor '" + name + "': expected a weight that this model multiplies through its "
                "adapted paths, got a name that is none; use the base model that the adapter was made for");
    }
    alora_refuse(ALORA_ERROR_MISMATCH, path, "tensor '" + name + "': expected " + expected_shapes(known->first.second, known->second.tensor) +
            ", got " + alora_shape_of(a) + " and " + alora_shape_of(b) + "; use the base model that the adapter was made for");
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

static bool is_cpu(ggml_backend_buffer_type_t buft) {
    auto * dev = ggml_backend_buft_get_device(buft);
    return ggml_backend_buft_is_host(buft) && (!dev || ggml_backend_dev_type(dev) == GGML_BACKEND_DEVICE_TYPE_CPU);
}

ggml_backend_buffer_t alora_adapter::alloc(ggml_context * ctx, ggml_backend_buffer_type_t buft) {
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
    return ggml_backend_alloc_ctx_tensors_from_buft(ctx, buft);
}

//
// alora_adapter
//

alora_adapter::alora_adapter(const char * path, const char * arch, const alora_weights & weights) : id(next_id++), path(path) {
    alora_adapter_file file(path, arch);
    const auto copies = match(file, weights);
    allocate();
    copy(file, copies);
}

size_t alora_adapter::block_of(const alora_block & block) {
    auto it = std::find(blocks.begin(), blocks.end(), block);
    if (it == blocks.end()) {
        it = blocks.insert(it, block);
    }
    return (size_t) (it - blocks.begin());
}

// A vector of the file beside its pair, nullptr if there is none.
static ggml_tensor * check_vector(const std::string & path, ggml_tensor * v, alora_role role, const ggml_tensor * b) {
    if (v && role == ALORA_ROLE_EXPERTS) {
        alora_refuse(ALORA_ERROR_MISMATCH, path, std::string("tensor '") + v->name + "': expected no such vector for experts, got one; "
                "it cannot be applied");
    }
    if (v && !has_shape(v, b->ne[1], 1, 1)) {
        alora_refuse(ALORA_ERROR_MISMATCH, path, std::string("tensor '") + v->name + "': expected [" + std::to_string(b->ne[1]) +
                "], got " + alora_shape_of(v) + "; convert the adapter again");
    }
    return v;
}

std::vector<alora_adapter::copied> alora_adapter::match(const alora_adapter_file & file, const alora_weights & weights) {
    std::vector<copied> res;

    for (const auto & [name, from] : file.pairs) {
        const auto weight = find_weight(weights, path, name, from.a, from.b);
        const auto role   = weight->first.second;

        auto & ctx = ctxs[buft_for(weight->second.tensor)];
        if (!ctx) {
            ctx.reset(ggml_init({ /*.mem_size =*/ 5*file.pairs.size()*ggml_tensor_overhead(), /*.mem_buffer =*/ nullptr, /*.no_alloc =*/ true }));
        }
        if (!ctx) {
            alora_refuse(ALORA_ERROR_MEMORY, path, "expected memory for its tensors, got none");
        }
        const auto add = [&, &ctx = ctx](ggml_tensor * src, float minus = 0.0f) {
            auto * dst = ggml_dup_tensor(ctx.get(), src);
            ggml_set_name(dst, src->name);
            res.push_back({ src, dst, minus });
            return dst;
        };

        const int64_t rank  = rank_of(role, from.a);
        const float   scale = file.alpha == 0.0f ? 1.0f : file.alpha/(float) rank;

        alora_pair pair;
        pair.a     = add(from.a);
        pair.b     = add(from.b);
        pair.block = block_of({ rank, scale, false });
        if (auto * bias = check_vector(path, from.bias, role, from.b)) {
            pair.bias       = add(bias);
            pair.block_bias = block_of({ 1, scale, false });
        }
        if (auto * magnitude = check_vector(path, from.magnitude, role, from.b)) {
            pair.magnitude   = add(magnitude);
            pair.magnitude_1 = add(magnitude, 1.0f);
            pair.block_mask  = block_of({ 1, 1.0f, true });
        }
        if (!pairs.emplace(weight->first, pair).second) {
            alora_refuse(ALORA_ERROR_FILE, path, "tensor '" + name + "': expected one pair for this weight, got two; convert the adapter again");
        }
    }
    return res;
}

void alora_adapter::allocate() {
    for (const auto & [buft, ctx] : ctxs) {
        ggml_backend_buffer_ptr buf { alloc(ctx.get(), buft) };
        if (!buf) {
            alora_refuse(ALORA_ERROR_MEMORY, path, std::string("expected memory on ") + ggml_backend_buft_name(buft) + " for its tensors, got none");
        }
        // so that the scheduler multiplies by them where they are, as it does with the base's weights
        ggml_backend_buffer_set_usage(buf.get(), GGML_BACKEND_BUFFER_USAGE_WEIGHTS);
        bufs.emplace_back(std::move(buf));
    }
}

void alora_adapter::copy(alora_adapter_file & file, const std::vector<copied> & copies) {
    std::vector<uint8_t> data;
    for (const auto & [src, dst, minus] : copies) {
        const size_t size     = ggml_nbytes(src);
        const bool   in_place = ggml_backend_buffer_is_host(dst->buffer);
        data.resize(in_place ? 0 : size);
        auto * into = in_place ? (uint8_t *) dst->data : data.data();
        file.read(src, into);
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
            alora_refuse(ALORA_ERROR_MISMATCH, path, "tensor '" + key.first + "': expected a weight of this shape in the context's model, got none; "
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
