// libFuzzer on the native loader of adapters: what it takes is decoded with, and freed.
// ALORA_FUZZ_BASE names the base model's file.

#include "alora.h"

#include <cassert>
#include <cstdio>
#include <cstdlib>
#include <string>

#include <sys/mman.h>
#include <unistd.h>

static llama_context * ctx;

extern "C" int LLVMFuzzerInitialize(int *, char ***) {
    llama_log_set([](ggml_log_level, const char *, void *) {}, nullptr);
    llama_backend_init();
    const char * base = getenv("ALORA_FUZZ_BASE");
    auto * model = base ? llama_model_load_from_file(base, llama_model_default_params()) : nullptr;
    if (!model) {
        fprintf(stderr, "ALORA_FUZZ_BASE: expected a base model's file, got %s\n", base ? base : "nothing");
        exit(2);
    }
    auto params = llama_context_default_params();
    params.n_ctx     = 64;
    params.n_threads = params.n_threads_batch = 1;
    ctx = llama_init_from_model(model, params);
    assert(ctx);
    return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t * data, size_t size) {
    const int fd = memfd_create("adapter", 0);
    if (write(fd, data, size) != (ssize_t) size) {
        abort();
    }
    const std::string path = "/proc/self/fd/" + std::to_string(fd);
    alora_adapter_id adapter = 0;
    if (alora_adapter_load(ctx, path.c_str(), &adapter) == ALORA_OK) {
        if (alora_seq_activate(ctx, 0, adapter, 1, 1.0f) != ALORA_OK) {
            abort();
        }
        llama_token tokens[] = { 3, 4, 5 };
        if (llama_decode(ctx, llama_batch_get_one(tokens, 3)) != 0) {
            abort();
        }
        llama_memory_clear(llama_get_memory(ctx), true);
        alora_adapter_free(adapter);
    } else if (adapter || !*alora_last_error()) {
        abort();
    }
    close(fd);
    return 0;
}
