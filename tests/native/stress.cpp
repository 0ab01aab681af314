// Threads with contexts of their own on one model load, activate, decode with and free adapters, over and
// over and all at once. What a context says is the same each time, whatever the others do.
//
//   stress BASE ADAPTER N_THREADS N_ROUNDS
//
// Under a sanitizer it finds races and leaks: `make sanitize`.

#include "alora.h"

#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>

#define CHECK(x) \
    if (!(x)) { \
        fprintf(stderr, "%s:%d: expected %s, got: %s\n", __FILE__, __LINE__, #x, alora_last_error()); \
        exit(1); \
    }

static const llama_seq_id N_SEQ = 3;

// Two prompts, the second one adapted from its third token on, and a token after a copy of that. The logits of all.
static std::vector<float> said(llama_context * ctx, alora_adapter_id adapter, float scale) {
    auto * memory = llama_get_memory(ctx);
    const int n_vocab = llama_vocab_n_tokens(llama_model_get_vocab(llama_get_model(ctx)));
    std::vector<float> res;

    const auto decode = [&](const std::vector<llama_seq_id> & seqs, llama_pos start, int n) {
        auto batch = llama_batch_init(n * (int) seqs.size(), 0, 1);
        for (const auto seq : seqs) {
            for (int i = 0; i < n; ++i) {
                const int k = batch.n_tokens++;
                batch.token[k]     = 3 + 7 * (start + i);
                batch.pos[k]       = start + i;
                batch.n_seq_id[k]  = 1;
                batch.seq_id[k][0] = seq;
                batch.logits[k]    = true;
            }
        }
        CHECK(llama_decode(ctx, batch) == 0);
        const float * logits = llama_get_logits(ctx);
        res.insert(res.end(), logits, logits + (size_t) n_vocab * batch.n_tokens);
        llama_batch_free(batch);
    };

    CHECK(alora_seq_activate(ctx, 1, adapter, 2, scale) == ALORA_OK);
    decode({ 0, 1 }, 0, 6);
    llama_memory_seq_cp(memory, 1, 2, -1, -1);
    alora_activation found;
    CHECK(alora_seq_activations(ctx, 2, &found, 1) == 1 && found.adapter == adapter && found.start == 2);
    decode({ 0, 2 }, 6, 1);
    CHECK(llama_memory_seq_rm(memory, 1, 2, -1));
    CHECK(alora_seq_activations(ctx, 1, nullptr, 0) == 0);
    llama_memory_clear(memory, true);
    return res;
}

int main(int argc, char ** argv) {
    CHECK(argc == 5);
    const char * path = argv[2];
    llama_log_set([](ggml_log_level, const char *, void *) {}, nullptr);
    llama_backend_init();
    auto * model = llama_model_load_from_file(argv[1], llama_model_default_params());
    CHECK(model);

    const auto run = [&](int n_rounds) {
        auto params = llama_context_default_params();
        params.n_ctx     = 128;
        params.n_seq_max = N_SEQ;
        params.n_threads = params.n_threads_batch = 2;
        auto * ctx = llama_init_from_model(model, params);
        CHECK(ctx);
        std::vector<float> first;
        for (int i = 0; i < n_rounds; ++i) {
            alora_adapter_id adapter = 0;
            CHECK(alora_adapter_load(ctx, path, &adapter) == ALORA_OK);
            const auto logits = said(ctx, adapter, 0.5f);
            if (i == 0) {
                first = logits;
            }
            CHECK(logits == first);
            CHECK(alora_adapter_free(adapter) == ALORA_OK);
        }
        llama_free(ctx);
    };

    std::vector<std::thread> threads;
    for (int i = 0; i < atoi(argv[3]); ++i) {
        threads.emplace_back(run, atoi(argv[4]));
    }
    for (auto & thread : threads) {
        thread.join();
    }
    llama_model_free(model);
    llama_backend_free();
    printf("%d threads, %d adapters each\n", atoi(argv[3]), atoi(argv[4]));
}
