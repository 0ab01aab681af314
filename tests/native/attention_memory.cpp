// What memory the attention of adapted tokens takes: of so many tokens behind so many cells of the base, prints for each number of
// threads the bytes that begin() allocates, at their peak, and how often the threads allocate.
//
//   attention_memory N_HEAD N_HEAD_KV DK DV N_TOKENS N_CELLS N_THREADS...
//
// Linked with libllama, whose allocations are those of this program.

#include "alora-attention.h"

#include "ggml.h"
#include "llama-batch.h"

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>
#include <numeric>
#include <thread>
#include <vector>

static std::atomic<size_t> n_allocations { 0 }, n_bytes { 0 }, n_bytes_peak { 0 };

static constexpr size_t HEADER = 64; // before each: its size, so that the rest is as aligned as a line

static void * allocate(size_t n) {
    auto * res = (char *) aligned_alloc(HEADER, HEADER + (n + HEADER - 1)/HEADER*HEADER);
    if (!res) {
        throw std::bad_alloc();
    }
    memcpy(res, &n, sizeof(n));
    n_allocations++;
    const size_t now = n_bytes += n;
    for (size_t peak = n_bytes_peak; peak < now && !n_bytes_peak.compare_exchange_weak(peak, now);) {}
    return res + HEADER;
}

static void release(void * p) {
    if (p) {
        size_t n;
        memcpy(&n, (char *) p - HEADER, sizeof(n));
        n_bytes -= n;
        free((char *) p - HEADER);
    }
}

void * operator new(size_t n)                     { return allocate(n); }
void * operator new(size_t n, std::align_val_t)   { return allocate(n); }
void operator delete(void * p) noexcept           { release(p); }
void operator delete(void * p, size_t) noexcept   { release(p); }
void operator delete(void * p, std::align_val_t) noexcept         { release(p); }
void operator delete(void * p, size_t, std::align_val_t) noexcept { release(p); }

struct custom_op { // what ggml_custom_4d() leaves in op_params
    ggml_custom_op_t fun;
    int              n_tasks;
    void           * userdata;
};

int main(int argc, char ** argv) {
    std::vector<int64_t> sizes;
    for (int i = 1; i < argc; ++i) {
        sizes.push_back(atoll(argv[i]));
    }
    if (sizes.size() < 7) {
        fprintf(stderr, "usage: attention_memory N_HEAD N_HEAD_KV DK DV N_TOKENS N_CELLS N_THREADS...\n");
        return 2;
    }
    const int64_t n_head = sizes[0], n_head_kv = sizes[1], dk = sizes[2], dv = sizes[3], n_tokens = sizes[4], n_cells = sizes[5], n_kv = n_tokens + n_cells;
    auto * ctx = ggml_init({ /*.mem_size =*/ (size_t) 2 << 30, /*.mem_buffer =*/ nullptr, /*.no_alloc =*/ false });
    auto * q = ggml_new_tensor_3d(ctx, GGML_TYPE_F32, dk, n_tokens, n_head);
    auto * k = ggml_new_tensor_3d(ctx, GGML_TYPE_F16, dk, n_kv, n_head_kv);
    auto * v = ggml_new_tensor_3d(ctx, GGML_TYPE_F16, dv, n_kv, n_head_kv);
    auto * mask = ggml_new_tensor_2d(ctx, GGML_TYPE_F16, n_kv, n_tokens);
    std::fill((float *) q->data, (float *) q->data + ggml_nelements(q), 0.0f);
    std::fill((ggml_fp16_t *) k->data, (ggml_fp16_t *) k->data + ggml_nelements(k), ggml_fp32_to_fp16(0.5f));
    std::fill((ggml_fp16_t *) v->data, (ggml_fp16_t *) v->data + ggml_nelements(v), ggml_fp32_to_fp16(0.5f));
    for (int64_t t = 0; t < n_tokens; ++t) { // sees those before it and itself
        for (int64_t i = 0; i < n_kv; ++i) {
            ((uint16_t *) mask->data)[t*n_kv + i] = i <= n_cells + t ? 0 : 0xfc00;
        }
    }
    std::vector<llama_pos> pos(n_tokens);
    std::iota(pos.begin(), pos.end(), (llama_pos) n_cells);
    llama_ubatch ubatch {};
    ubatch.n_tokens = n_tokens;
    ubatch.pos      = pos.data();
    const std::vector<uint8_t> active(n_tokens, 1);

    for (size_t i = 6; i < sizes.size(); ++i) {
        const int n_threads = (int) sizes[i];
        alora_attention attention;
        auto * flash = ggml_flash_attn_ext(ctx, q, k, v, mask, 1.0f, 0.0f, 0.0f);
        if (!attention.takes(flash)) {
            fprintf(stderr, "expected an attention that is taken, got another one\n");
            return 1;
        }
        auto * res = attention.build(ctx, flash, false, [](ggml_tensor *) {});
        const size_t before = n_bytes;
        n_bytes_peak = before;
        attention.begin(active, ubatch, nullptr, n_threads);
        const size_t peak = n_bytes_peak - before;

        custom_op op;
        memcpy(&op, res->op_params, sizeof(op));
        std::atomic<size_t> n_in_threads { 0 };
        std::atomic<int>    n_ready { 0 };
        std::vector<std::thread> threads;
        for (int t = 0; t < n_threads; ++t) {
            threads.emplace_back([&, t] {
                n_ready++;
                while (n_ready < n_threads) { std::this_thread::yield(); } // or the others are still made
                const size_t n = n_allocations;
                op.fun(res, t, n_threads, op.userdata);
                n_in_threads += n_allocations - n;
            });
        }
        for (auto & thread : threads) {
            thread.join();
        }
        for (int64_t j = 0; j < ggml_nelements(res); ++j) { // the mean of what is everywhere alike
            if (std::abs(((const float *) res->data)[j] - 0.5f) > 1e-5f) {
                fprintf(stderr, "expected 0.5, got %g\n", ((const float *) res->data)[j]);
                return 1;
            }
        }
        printf("%d %zu %zu\n", n_threads, peak, n_in_threads.load());
    }
}
