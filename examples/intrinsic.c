/* An intrinsic from C: what is said is computed by the base, and from the invocation on the adapter is active.

   P=$(python -c 'from alora_gguf.runtime.folder import LIB_DIR; print(LIB_DIR.parent)'); cc examples/intrinsic.c -o intrinsic \
       -I$P/include -L$P/lib -Wl,-rpath,$P/lib -lllama -lggml -lggml-base
   ./intrinsic base.gguf adapter.gguf "TEXT" ["MESSAGE"]

   MESSAGE is what the adapter's io.yaml would ask it, with the invocation; without one, the invocation follows the text. */

#include "alora.h"
#include "gguf.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CHECK(ok, ...) do { if (!(ok)) { fprintf(stderr, "intrinsic: error: " __VA_ARGS__); fputc('\n', stderr); exit(1); } } while (0)

enum { N_CTX = 2048, N_MOST = 64 }; // cells; tokens of the message, and of the answer

static void on_log(enum ggml_log_level level, const char * text, void * data) {
    (void) data;
    if (level == GGML_LOG_LEVEL_ERROR) fputs(text, stderr);
}

int main(int argc, char ** argv) {
    CHECK(argc == 4 || argc == 5, "expected a base, an adapter, a text and maybe a message, got %d arguments", argc - 1);
    llama_log_set(on_log, NULL);
    CHECK(alora_load_backends() > 0, "expected ggml's backends beside libllama");
    struct llama_model * model = llama_model_load_from_file(argv[1], llama_model_default_params());
    CHECK(model, "%s: expected a GGUF model", argv[1]);
    const struct llama_vocab * vocab = llama_model_get_vocab(model);
    struct llama_context_params params = llama_context_default_params();
    params.n_ctx = params.n_batch = N_CTX;
    params.n_threads = params.n_threads_batch = (int32_t) sysconf(_SC_NPROCESSORS_ONLN);
    struct llama_context * ctx = llama_init_from_model(model, params);
    CHECK(ctx, "%s: expected room for %d cells", argv[1], N_CTX);
    alora_adapter_id adapter;
    CHECK(alora_adapter_load(ctx, argv[2], &adapter) == ALORA_OK, "%s", alora_last_error());

    struct gguf_context * file = gguf_init_from_file(argv[2], (struct gguf_init_params) { true, NULL });
    int64_t key = file ? gguf_find_key(file, "adapter.alora.invocation_tokens") : -1;
    CHECK(key >= 0 && gguf_get_kv_type(file, key) == GGUF_TYPE_ARRAY && gguf_get_arr_type(file, key) == GGUF_TYPE_UINT32,
          "%s: expected invocation tokens, got an ordinary LoRA", argv[2]);
    size_t n_invocation = gguf_get_arr_n(file, key);
    CHECK(n_invocation <= N_MOST, "%s: expected at most %d invocation tokens, got %zu", argv[2], N_MOST, n_invocation);

    // what is said, as the model's own template has it
    struct llama_chat_message said[] = {{ "system", "You are a helpful assistant." }, { "user", argv[3] }, { "user", argv[argc - 1] }};
    static char text[1 << 16];
    int32_t n_text = llama_chat_apply_template(llama_model_chat_template(model, NULL), said, 2, false, text, sizeof text);
    CHECK(n_text > 0 && n_text <= (int32_t) sizeof text, "%s: expected a known chat template, and a shorter text", argv[1]);
    llama_token tokens[N_CTX];
    int32_t n = llama_tokenize(vocab, text, n_text, tokens, N_CTX - 2 * N_MOST, true, true);
    CHECK(n > 0, "text: expected at most %d tokens, got %d", N_CTX - 2 * N_MOST, -n);
    CHECK(llama_decode(ctx, llama_batch_get_one(tokens, n)) == 0, "expected %d tokens to be computed", n);

    // the message, or the invocation alone, and the answer: a batch of sequence 0 goes on where the last one ended
    const void * invocation = gguf_get_arr_data(file, key);
    size_t n_message = n_invocation, start = 0;
    memcpy(tokens, invocation, n_invocation * sizeof *tokens);
    if (argc == 5) {
        int32_t n_all = llama_chat_apply_template(llama_model_chat_template(model, NULL), said, 3, true, text, sizeof text);
        CHECK(n_all > 0 && n_all <= (int32_t) sizeof text, "message: expected a shorter one");
        int32_t n_tokens = llama_tokenize(vocab, text + n_text, n_all - n_text, tokens, N_MOST, false, true);
        CHECK(n_tokens > 0, "message: expected at most %d tokens, got %d", N_MOST, -n_tokens);
        n_message = (size_t) n_tokens;
        while (start + n_invocation <= n_message && memcmp(tokens + start, invocation, n_invocation * sizeof *tokens)) start++;
        CHECK(start + n_invocation <= n_message, "message: expected the adapter's invocation in it");
    }
    CHECK(alora_seq_activate(ctx, 0, adapter, n + (int32_t) start, 1.0f) == ALORA_OK, "%s", alora_last_error());
    struct llama_batch batch = llama_batch_get_one(tokens, (int32_t) n_message);
    struct llama_sampler * greedy = llama_sampler_init_greedy();
    for (int i = 0; i < N_MOST; i++) {
        CHECK(llama_decode(ctx, batch) == 0, "expected %d tokens to be computed", batch.n_tokens);
        tokens[0] = llama_sampler_sample(greedy, ctx, -1);
        if (llama_vocab_is_eog(vocab, tokens[0])) break;
        char piece[256];
        int32_t n_piece = llama_token_to_piece(vocab, tokens[0], piece, sizeof piece, 0, false);
        CHECK(n_piece >= 0, "token %d: expected at most %zu bytes, got %d", tokens[0], sizeof piece, -n_piece);
        fwrite(piece, 1, n_piece, stdout);
        batch = llama_batch_get_one(tokens, 1);
    }
    putchar('\n');
    llama_memory_seq_rm(llama_get_memory(ctx), 0, n, -1); // back to what was said: this ends the activation, too

    llama_sampler_free(greedy);
    gguf_free(file);
    alora_adapter_free(adapter);
    llama_free(ctx);
    llama_model_free(model);
}
