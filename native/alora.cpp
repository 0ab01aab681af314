#include "alora.h"

#include "alora-context.h"
#include "alora-system.h"

#include "llama-arch.h"
#include "llama-context.h"
#include "llama-model.h"

#ifdef __GLIBC__
#include <malloc.h>
#endif

#include <algorithm>
#include <cmath>
#include <map>
#include <mutex>
#include <new>

static thread_local std::string last_error;
static thread_local bool no_memory = false; // not even for the error's text

static std::mutex adapters_mutex;
static std::map<alora_adapter_id, alora_adapter_ptr> adapters;

static alora_adapter_ptr find_adapter(alora_adapter_id adapter) {
    std::lock_guard<std::mutex> lock(adapters_mutex);
    const auto it = adapters.find(adapter);
    return it == adapters.end() ? nullptr : it->second;
}

// A path or a tensor's name may have anything in it.
static std::string one_line(std::string text) {
    std::replace_if(text.begin(), text.end(), [](unsigned char c) { return c < ' ' || c == 0x7f; }, '?');
    return text;
}

static void set_error(const char * what) noexcept {
    try {
        last_error = one_line(what);
        no_memory  = false;
    } catch (const std::exception &) {
        no_memory = true;
    }
}

// No exception crosses the C surface.
template <typename F>
static int32_t guarded(F && f) noexcept {
    last_error.clear();
    no_memory = false;
    try {
        return f();
    } catch (const alora_error & e) {
        set_error(e.what());
        return e.status;
    } catch (const std::bad_alloc &) {
        no_memory = true;
        return ALORA_ERROR_MEMORY;
    } catch (const std::exception & e) {
        set_error(e.what());
        return ALORA_ERROR_FILE;
    }
}

static alora_context & live(llama_context * ctx) {
    auto * res = alora_context_find(ctx);
    if (!res) {
        throw alora_error(ALORA_ERROR_CONTEXT, "ctx: expected a live context, got NULL or one that was freed");
    }
    if (!ctx->get_memory()) {
        throw alora_error(ALORA_ERROR_CONTEXT, "ctx: expected a context with a memory, got one without; positions are not kept there");
    }
    return *res;
}

// Where no graph could have an adapter: ggml or llama.cpp would end the process, or adapt what has no position.
static void check_adaptable(llama_context * ctx) {
    const auto & model = ctx->get_model();
    if (llama_model_has_encoder(&model)) {
        throw alora_error(ALORA_ERROR_MISMATCH, std::string("ctx: expected a model that only decodes, got ") + llm_arch_name(model.arch) +
                ", which has an encoder; no adapter can be active there");
    }
    if (model.split_mode() == LLAMA_SPLIT_MODE_TENSOR) {
        throw alora_error(ALORA_ERROR_MISMATCH, "ctx: expected a model of whole weights for an adapter, got one loaded with "
                "LLAMA_SPLIT_MODE_TENSOR; load it with LLAMA_SPLIT_MODE_LAYER");
    }
}

static alora_adapter_ptr live(alora_adapter_id adapter) {
    auto res = find_adapter(adapter);
    if (!res) {
        throw alora_error(ALORA_ERROR_ADAPTER, "adapter: expected one that is loaded, got " +
                (adapter ? std::to_string(adapter) + ", which is none or was freed" : "none") + "; load it again");
    }
    return res;
}

static void check_seq(llama_context * ctx, llama_seq_id seq_id) {
    if (seq_id < 0 || (uint32_t) seq_id >= ctx->n_seq_max()) {
        throw alora_error(ALORA_ERROR_ARGUMENT, "seq_id: expected 0 to " + std::to_string(ctx->n_seq_max() - 1) +
                ", got " + std::to_string(seq_id) + "; raise n_seq_max");
    }
}

int32_t alora_abi_version(void) {
    return ALORA_ABI_VERSION;
}

int32_t alora_load_backends(void) {
    return guarded([]() -> int32_t {
        static std::mutex mutex;
        std::lock_guard<std::mutex> lock(mutex);
        const std::string folder = ggml_backend_reg_count() == 0 ? alora_library_folder() : "";
        if (!folder.empty()) {
            ggml_backend_load_all_from_path(folder.c_str());
        }
        return ggml_backend_reg_count();
    });
}

const char * alora_last_error(void) {
    return no_memory ? "expected memory, got none" : last_error.c_str();
}

int32_t alora_adapter_load(llama_context * ctx, const char * path, alora_adapter_id * adapter) {
    return guarded([&]() -> int32_t {
        if (!path || !adapter) {
            throw alora_error(ALORA_ERROR_ARGUMENT, "path, adapter: expected pointers, got NULL");
        }
        *adapter = 0;
        const auto & alora = live(ctx);
        check_adaptable(ctx);
        const auto loaded = std::make_shared<alora_adapter>(path, llm_arch_name(ctx->get_model().arch), alora.weights);

        std::lock_guard<std::mutex> lock(adapters_mutex);
        adapters.emplace(loaded->id, loaded);
        *adapter = loaded->id;
        return ALORA_OK;
    });
}

int32_t alora_adapter_free(alora_adapter_id adapter) {
    return guarded([&]() -> int32_t {
        if (!adapter) {
            return ALORA_OK;
        }
        auto freed = live(adapter);
        {
            std::lock_guard<std::mutex> lock(adapters_mutex);
            adapters.erase(adapter);
        }
        alora_contexts_forget(freed.get());
        freed.reset();
#ifdef __GLIBC__
        malloc_trim(0); // what was allocated to load and to use it: each thread's heap keeps tens of megabytes of that else
#endif
        return ALORA_OK;
    });
}

uint64_t alora_adapter_size(alora_adapter_id adapter) {
    uint64_t res = 0;
    guarded([&]() -> int32_t {
        res = live(adapter)->n_bytes();
        return ALORA_OK;
    });
    return res;
}

int32_t alora_seq_activate(llama_context * ctx, llama_seq_id seq_id, alora_adapter_id adapter, llama_pos start, float scale) {
    return guarded([&]() -> int32_t {
        auto & alora = live(ctx);
        check_adaptable(ctx);
        const auto found = live(adapter);
        check_seq(ctx, seq_id);
        if (start < 0) {
            throw alora_error(ALORA_ERROR_ARGUMENT, "start: expected a position from 0 on, got " + std::to_string(start));
        }
        if (!std::isfinite(scale)) {
            throw alora_error(ALORA_ERROR_ARGUMENT, "scale: expected a finite number, got NaN or infinity");
        }
        alora.activate(seq_id, found, start, scale);
        return ALORA_OK;
    });
}

int32_t alora_seq_deactivate(llama_context * ctx, llama_seq_id seq_id, alora_adapter_id adapter) {
    return guarded([&]() -> int32_t {
        auto & alora = live(ctx);
        check_seq(ctx, seq_id);
        return alora.deactivate(seq_id, adapter ? live(adapter).get() : nullptr);
    });
}

int32_t alora_seq_activations(llama_context * ctx, llama_seq_id seq_id, alora_activation * out, int32_t n_max) {
    return guarded([&]() -> int32_t {
        const auto & alora = live(ctx);
        check_seq(ctx, seq_id);
        if (n_max < 0 || (n_max > 0 && !out)) {
            throw alora_error(ALORA_ERROR_ARGUMENT, "out, n_max: expected a buffer for n_max activations, got none");
        }
        const auto & acts = alora.activations(seq_id);
        for (size_t i = 0; i < acts.size() && i < (size_t) n_max; ++i) {
            out[i] = { acts[i].adapter->id, acts[i].start, acts[i].scale };
        }
        return (int32_t) acts.size();
    });
}
