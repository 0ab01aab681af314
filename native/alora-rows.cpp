#include "alora-rows.h"

#include "ggml-alloc.h"
#include "ggml-backend.h"
#include "ggml-cpp.h"

#include <algorithm>
#include <cstring>
#include <mutex>
#include <tuple>

// rows of `n` floats, some of them large
static std::vector<float> noise(int64_t n) {
    std::vector<float> res(n);
    uint32_t state = 1;
    for (auto & v : res) {
        state = state*1664525u + 1013904223u;
        const float x = (int32_t) state/2147483648.0f;
        v = 4.0f*x*x*x;
    }
    return res;
}

// Types whose values can be made up without tables and without a matrix of importance.
static bool can_try(ggml_type type) {
    switch (type) {
        case GGML_TYPE_Q4_0: case GGML_TYPE_Q4_1: case GGML_TYPE_Q5_0: case GGML_TYPE_Q5_1: case GGML_TYPE_Q8_0:
        case GGML_TYPE_Q2_K: case GGML_TYPE_Q3_K: case GGML_TYPE_Q4_K: case GGML_TYPE_Q5_K: case GGML_TYPE_Q6_K:
        case GGML_TYPE_IQ4_NL: case GGML_TYPE_IQ4_XS: case GGML_TYPE_MXFP4:
            return true;
        default:
            return false;
    }
}

// A view of experts whose rows ggml multiplies one by one: it has tiles for what has nothing in `extra`, and the
// memory's kind alone decides whose `extra` it is.
static ggml_tensor * without_tiles(ggml_context * ctx, ggml_tensor * w) {
    auto * res = ggml_view_tensor(ctx, w);
    res->extra = res;
    return res;
}

// Tokens by a small weight of this type in such a buffer, together and one by one; all of them by one expert, or by no expert.
static bool try_rows(ggml_type type, ggml_backend_buffer_type_t buft, int64_t n_in, bool by_expert) {
    constexpr int64_t n_out = 64, n_max = 33;
    ggml_backend_ptr cpu { ggml_backend_init_by_type(GGML_BACKEND_DEVICE_TYPE_CPU, nullptr) };
    ggml_context_ptr ctx { ggml_init({ 96*ggml_tensor_overhead() + 8*ggml_graph_overhead(), nullptr, true }) };
    ggml_context_ptr ctx_w { ggml_init({ 2*ggml_tensor_overhead(), nullptr, true }) };
    if (!cpu || !ctx || !ctx_w) {
        return false;
    }
    auto * w = ggml_new_tensor_3d(ctx_w.get(), type, n_in, n_out, 1);
    ggml_backend_buffer_ptr buffer_w { ggml_backend_alloc_ctx_tensors_from_buft(ctx_w.get(), buft) };
    auto * x   = ggml_new_tensor_2d(ctx.get(), GGML_TYPE_F32, n_in, n_max);
    auto * ids = ggml_new_tensor_2d(ctx.get(), GGML_TYPE_I32, 1, n_max); // of the expert 0
    std::vector<ggml_tensor *> results;
    auto * graph = ggml_new_graph(ctx.get());
    const auto add = [&](int64_t n, bool alone) {
        if (by_expert) {
            auto * rows = ggml_view_3d(ctx.get(), x, n_in, 1, n, x->nb[1], x->nb[1], 0);
            auto * mine = ggml_view_2d(ctx.get(), ids, 1, n, ids->nb[1], 0);
            results.push_back(ggml_mul_mat_id(ctx.get(), alone ? without_tiles(ctx.get(), w) : w, rows, mine));
            ggml_build_forward_expand(graph, results.back());
            return;
        }
        auto * rows = alone ? ggml_view_3d(ctx.get(), x, n_in, 1, n, x->nb[1], x->nb[1], 0) : ggml_view_2d(ctx.get(), x, n_in, n, x->nb[1], 0);
        results.push_back(ggml_mul_mat(ctx.get(), w, rows));
        ggml_build_forward_expand(graph, results.back());
    };
    add(n_max, true);
    for (const int64_t n : { 2, 3, 4, 5, 8, 9, 16, 33 }) {
        add(n, false);
    }
    ggml_backend_buffer_ptr buffer { ggml_backend_alloc_ctx_tensors(ctx.get(), cpu.get()) };
    if (!buffer_w || !buffer) {
        return false;
    }
    std::vector<char> values(ggml_nbytes(w));
    ggml_quantize_chunk(type, noise(n_in*n_out).data(), values.data(), 0, n_out, n_in, nullptr);
    ggml_backend_tensor_set(w, values.data(), 0, values.size());
    ggml_backend_tensor_set(x, noise(n_in*n_max).data(), 0, ggml_nbytes(x));
    if (by_expert) {
        ggml_backend_tensor_memset(ids, 0, 0, ggml_nbytes(ids));
    }
    if (ggml_backend_graph_compute(cpu.get(), graph) != GGML_STATUS_SUCCESS) {
        return false;
    }
    std::vector<char> want(ggml_nbytes(results[0])), got;
    ggml_backend_tensor_get(results[0], want.data(), 0, want.size());
    for (const auto * result : results) {
        got.resize(ggml_nbytes(result));
        ggml_backend_tensor_get(result, got.data(), 0, got.size());
        if (memcmp(got.data(), want.data(), got.size()) != 0) {
            return false;
        }
    }
    return true;
}

static bool alike(const ggml_tensor * w, bool by_expert) {
    static std::mutex mutex;
    static std::map<std::tuple<ggml_type, ggml_backend_buffer_type_t, int64_t, bool>, bool> known;
    if (!can_try(w->type)) {
        return false;
    }
    auto * buft = ggml_backend_buffer_get_type(w->buffer);
    std::lock_guard<std::mutex> lock(mutex);
    const auto key = std::make_tuple(w->type, buft, w->ne[0], by_expert);
    const auto it = known.find(key);
    return it != known.end() ? it->second : known.emplace(key, try_rows(w->type, buft, w->ne[0], by_expert)).first->second;
}

bool alora_rows_alike(const ggml_tensor * w) { return alike(w, false); }

bool alora_experts_alike(const ggml_tensor * w) {
    const bool has_tiles = ggml_is_quantized(w->type) && ggml_blck_size(w->type) == 256 && ggml_backend_buffer_is_host(w->buffer);
    return !has_tiles || alike(w, true);
}

static char * row(const ggml_tensor * t, int64_t i) { return (char *) t->data + i*t->nb[1]; }

// Whether our own kernel reads these values where they lie.
static bool is_ours(const ggml_tensor * w) {
    return (w->type == GGML_TYPE_F32 || w->type == GGML_TYPE_F16 || w->type == GGML_TYPE_BF16) && ggml_backend_buffer_is_host(w->buffer);
}

ggml_tensor * alora_rows::build(ggml_context * ctx0, ggml_tensor * w, ggml_tensor * cur, ggml_tensor * product, const layout & layout, bool outputs,
        const std::function<void(ggml_tensor *)> & place) {
    const int64_t n_rows = ggml_nrows(cur), n = outputs ? layout.n_outputs : layout.n_tokens;
    auto & which = outputs ? this->outputs : tokens;
    if (n == 0) {
        return product;
    }
    if (is_ours(w) && kernels.attention) { // those without vectors are slow
        ggml_tensor * args[] = { w, cur };
        auto * res = layout.all ?
            ggml_custom_4d(ctx0, GGML_TYPE_F32, product->ne[0], product->ne[1], product->ne[2], product->ne[3], args, 2, multiply, GGML_N_TASKS_MAX, &which) :
            ggml_custom_inplace(ctx0, product, args, 2, multiply, GGML_N_TASKS_MAX, &which);
        place(res);
        return res;
    }
    if (n_rows == 1) {
        return product;
    }
    ggml_tensor * x = nullptr; // [n_in, 1, n]: planes of one row
    if (n == n_rows) {
        x = ggml_view_3d(ctx0, cur, cur->ne[0], 1, n_rows, cur->nb[1], cur->nb[1], 0);
    } else {
        auto *& rows = taken[cur];
        if (!rows) {
            rows = ggml_custom_4d(ctx0, GGML_TYPE_F32, cur->ne[0], 1, n, 1, &cur, 1, take, GGML_N_TASKS_MAX, &which);
            place(rows);
        }
        x = rows;
    }
    ggml_tensor * alone = ggml_mul_mat(ctx0, w, x);
    memcpy(alone->op_params, product->op_params, sizeof(product->op_params));
    place(alone);
    auto * res = layout.all ? ggml_reshape(ctx0, alone, product) : ggml_custom_inplace(ctx0, product, &alone, 1, put, GGML_N_TASKS_MAX, &which);
    place(res);
    return res;
}

ggml_tensor * alora_rows::build_experts(ggml_context * ctx0, ggml_tensor * w, ggml_tensor * cur, ggml_tensor * ids, ggml_tensor * product,
        const layout & layout, bool outputs, const std::function<void(ggml_tensor *)> & place) {
    const int64_t n = outputs ? layout.n_outputs : layout.n_tokens;
    auto & which = outputs ? this->outputs : tokens;
    if (n == 0) {
        return product;
    }
    if (n < cur->ne[2]) {
        auto *& x = taken[cur];
        if (!x) {
            x = ggml_custom_4d(ctx0, GGML_TYPE_F32, cur->ne[0], cur->ne[1], n, 1, &cur, 1, take_planes, GGML_N_TASKS_MAX, &which);
            place(x);
        }
        auto *& i = taken[ids];
        if (!i) {
            i = ggml_custom_4d(ctx0, GGML_TYPE_I32, ids->ne[0], n, 1, 1, &ids, 1, take_ids, GGML_N_TASKS_MAX, &which);
            place(i);
        }
        cur = x;
        ids = i;
    }
    auto * alone = ggml_mul_mat_id(ctx0, without_tiles(ctx0, w), cur, ids);
    place(alone);
    if (layout.all) {
        return alone;
    }
    auto * res = ggml_custom_inplace(ctx0, product, &alone, 1, put_planes, GGML_N_TASKS_MAX, &which);
    place(res);
    return res;
}

void alora_rows::set_plan(const alora_plan & plan, uint32_t n_tokens, const int8_t * is_output) {
    tokens .numbers.clear();
    outputs.numbers.clear();
    int32_t output = 0;
    for (uint32_t i = 0; i < n_tokens; ++i) {
        const bool is_out = !is_output || is_output[i];
        if (plan.alone[i]) {
            tokens.numbers.push_back((int32_t) i);
            if (is_out) {
                outputs.numbers.push_back(output);
            }
        }
        output += is_out;
    }
}

// the number of the row that is taken as number i: where there are fewer, the last one again
static int64_t number(const std::vector<int32_t> & numbers, int64_t i) {
    return numbers.empty() ? 0 : numbers[std::min<size_t>(i, numbers.size() - 1)];
}

void alora_rows::take(ggml_tensor * dst, int ith, int nth, void * userdata) {
    const auto & rows = ((const struct rows *) userdata)->numbers;
    for (int64_t i = ith; i < dst->ne[2]; i += nth) {
        memcpy((char *) dst->data + i*dst->nb[2], row(dst->src[0], number(rows, i)), dst->nb[1]);
    }
}

void alora_rows::take_planes(ggml_tensor * dst, int ith, int nth, void * userdata) {
    const auto & rows = ((const struct rows *) userdata)->numbers;
    const auto * src  = dst->src[0];
    for (int64_t i = ith; i < dst->ne[2]*dst->ne[1]; i += nth) {
        const int64_t token = i/dst->ne[1], k = i % dst->ne[1];
        memcpy((char *) dst->data + i*dst->nb[1], (const char *) src->data + number(rows, token)*src->nb[2] + k*src->nb[1], dst->nb[1]);
    }
}

void alora_rows::take_ids(ggml_tensor * dst, int ith, int nth, void * userdata) {
    const auto & rows = ((const struct rows *) userdata)->numbers;
    for (int64_t i = ith; i < dst->ne[1]; i += nth) {
        memcpy(row(dst, i), row(dst->src[0], number(rows, i)), dst->nb[1]);
    }
}

void alora_rows::put_planes(ggml_tensor * dst, int ith, int nth, void * userdata) {
    const auto & rows = ((const struct rows *) userdata)->numbers;
    const auto * alone = dst->src[1];
    const bool all = alone->ne[2] == dst->ne[2];
    for (size_t i = ith; i < rows.size(); i += nth) {
        memcpy((char *) dst->data + rows[i]*dst->nb[2], (const char *) alone->data + (all ? rows[i] : i)*alone->nb[2], dst->nb[2]);
    }
}

void alora_rows::put(ggml_tensor * dst, int ith, int nth, void * userdata) {
    const auto & rows = ((const struct rows *) userdata)->numbers;
    const auto * alone = dst->src[1];
    const bool all = alone->ne[2] == ggml_nrows(dst);
    for (size_t i = ith; i < rows.size(); i += nth) {
        memcpy(row(dst, rows[i]), (const char *) alone->data + (all ? rows[i] : i)*alone->nb[2], dst->ne[0]*sizeof(float));
    }
}

// a thread's part of every row
void alora_rows::multiply(ggml_tensor * dst, int ith, int nth, void * userdata) {
    const auto & rows = *(const struct rows *) userdata;
    const auto * w = dst->src[dst->view_src ? 1 : 0], * cur = dst->src[dst->view_src ? 2 : 1];
    const int64_t chunk = ((w->ne[1] + nth - 1)/nth + 15)/16*16;
    const int64_t i0 = std::min(w->ne[1], chunk*ith), i1 = std::min(w->ne[1], i0 + chunk);

    constexpr size_t N = 64; // for which w is read once
    const float * x[N];
    float       * y[N];
    float         scales[N];
    std::fill(scales, scales + N, 1.0f);
    for (size_t first = 0; i0 < i1 && first < rows.numbers.size(); first += N) {
        const size_t n = std::min(N, rows.numbers.size() - first);
        for (size_t i = 0; i < n; ++i) {
            x[i] = (const float *) row(cur, rows.numbers[first + i]);
            y[i] = (float *) row(dst, rows.numbers[first + i]);
            std::fill(y[i] + i0, y[i] + i1, 0.0f);
        }
        rows.kernel({ w->type, w->data, w->nb[1], w->ne[0], nullptr, x, y, scales, (int64_t) n, nullptr }, i0, i1);
    }
}
