// The C surface where there is no Python: loads a base and an adapter from a folder whose name no code page has,
// and looks at what an activated adapter does to a batch, and to nothing else. Prints what it found; 1 on a difference.
//
//   abroad BASE ADAPTER
//
// Their paths are for fopen; `make cross` runs it under Wine.

#include "alora.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

#define CHECK(x) \
    if (!(x)) { \
        fprintf(stderr, "%s:%d: expected %s, got: %s\n", __FILE__, __LINE__, #x, alora_last_error()); \
        exit(1); \
    }

namespace fs = std::filesystem;

static const int N = 6, START = 2; // tokens of a prompt; the first adapted one
static const char * FOLDER = "alora \xc3\xa9\xd0\x96\xe6\x97\xa5"; // "é", "Ж" and "日"

// Logits [n_tokens, n_vocab] of the prompt in each of the sequences, in one batch.
static std::vector<std::vector<float>> decode(llama_context * ctx, const std::vector<llama_seq_id> & seqs) {
    const int n_vocab = llama_vocab_n_tokens(llama_model_get_vocab(llama_get_model(ctx)));
    auto batch = llama_batch_init(N*(int) seqs.size(), 0, 1);
    for (const auto seq : seqs) {
        for (int i = 0; i < N; ++i) {
            const int k = batch.n_tokens++;
            batch.token[k]     = 3 + 7*i;
            batch.pos[k]       = i;
            batch.n_seq_id[k]  = 1;
            batch.seq_id[k][0] = seq;
            batch.logits[k]    = true;
        }
    }
    CHECK(llama_decode(ctx, batch) == 0);
    std::vector<std::vector<float>> res;
    for (size_t i = 0; i < seqs.size(); ++i) {
        const float * logits = llama_get_logits(ctx) + i*N*n_vocab;
        res.emplace_back(logits, logits + N*n_vocab);
    }
    llama_batch_free(batch);
    llama_memory_clear(llama_get_memory(ctx), true);
    return res;
}

// The largest difference between rows [begin, end) of two prompts.
static float difference(const std::vector<float> & a, const std::vector<float> & b, int begin, int end) {
    const size_t n_vocab = a.size()/N;
    float res = 0.0f;
    for (size_t i = begin*n_vocab; i < end*n_vocab; ++i) {
        res = std::max(res, std::isfinite(a[i]) && std::isfinite(b[i]) ? std::fabs(a[i] - b[i]) : INFINITY);
    }
    return res;
}

int main(int argc, char ** argv) {
    CHECK(argc == 3);
    llama_log_set([](ggml_log_level, const char *, void *) {}, nullptr);
    llama_backend_init();
    CHECK(alora_abi_version() == ALORA_ABI_VERSION);
    CHECK(ggml_backend_reg_count() == (size_t) std::max(0, alora_load_backends()) && ggml_backend_reg_count() > 0);

    const auto folder = fs::u8path(FOLDER);
    fs::create_directory(folder);
    const auto overwrite = fs::copy_options::overwrite_existing;
    fs::copy_file(argv[1], folder/fs::u8path("base.gguf"),    overwrite);
    fs::copy_file(argv[2], folder/fs::u8path("adapter.gguf"), overwrite);
    const std::string base = std::string(FOLDER) + "/base.gguf", path = std::string(FOLDER) + "/adapter.gguf";

    auto * model = llama_model_load_from_file(base.c_str(), llama_model_default_params());
    CHECK(model);
    auto params = llama_context_default_params();
    params.n_ctx     = 128;
    params.n_seq_max = 2;
    params.n_threads = params.n_threads_batch = 2;
    auto * ctx = llama_init_from_model(model, params);
    CHECK(ctx);

    alora_adapter_id adapter = 0;
    for (const std::string & none : { path + ".none", std::string("\xff\xfe.gguf"), std::string(FOLDER) }) {
        CHECK(alora_adapter_load(ctx, none.c_str(), &adapter) == ALORA_ERROR_FILE && !adapter);
    }
    CHECK(alora_adapter_load(ctx, (path + ".none").c_str(), &adapter) == ALORA_ERROR_FILE && strstr(alora_last_error(), FOLDER));
    printf("%s\n", alora_last_error());
    CHECK(alora_adapter_load(ctx, path.c_str(), &adapter) == ALORA_OK);

    const auto before = decode(ctx, { 0, 1 });
    CHECK(alora_seq_activate(ctx, 1, adapter, START, 0.5f) == ALORA_OK);
    const auto half = decode(ctx, { 0, 1 }); // and clears, which ends the activation
    CHECK(alora_seq_activations(ctx, 1, nullptr, 0) == 0);
    CHECK(alora_seq_activate(ctx, 1, adapter, START, 1.0f) == ALORA_OK);
    const auto whole = decode(ctx, { 1, 0 });
    const auto after = decode(ctx, { 0, 1 });
    CHECK(alora_adapter_free(adapter) == ALORA_OK);
    CHECK(alora_seq_activate(ctx, 1, adapter, START, 1.0f) == ALORA_ERROR_ADAPTER);

    llama_free(ctx);
    llama_model_free(model);
    llama_backend_free();
    fs::remove_all(folder); // Windows removes nothing that is open: so the adapter's file is closed, too

    const float rounding = 1e-4f; // for a batch of another order
    const float scaled = difference(half[1], before[1], START, N), adapted = difference(whole[0], before[1], START, N);
    const float beside = std::max({ difference(half[0], before[0], 0, N), difference(after[0], before[0], 0, N),
        difference(after[1], before[1], 0, N), difference(half[1], before[1], 0, START) });
    printf("backends:");
    for (size_t i = 0; i < ggml_backend_reg_count(); ++i) {
        printf(" %s", ggml_backend_reg_name(ggml_backend_reg_get(i)));
    }
    printf("; kernels: %s\n", alora_kernels_name());
    printf("logits, largest differences from the base: adapted tokens %.4f, at half the scale %.4f; the others %g\n", adapted, scaled, beside);
    const bool ok = adapted > 0.01f && scaled > 0.0f && scaled < adapted && beside == 0.0f &&
        difference(whole[1], before[0], 0, N) < rounding && difference(whole[0], before[1], 0, START) < rounding;
    printf("%s\n", ok ? "ok" : "expected adapted tokens to differ and the others not to");
    return !ok;
}
