// alora.h - activated LoRA for llama.cpp: the public C surface.
//
// An adapter is active for a sequence from a position on. A token of a batch is adapted by every
// adapter that is active for its sequence at its position, and by no other: one llama_decode may
// mix sequences with any adapters, starts and scales, and sequences without any.
//
// Errors. A function that returns int32_t returns ALORA_OK (or a count) or a negative
// alora_status; alora_last_error() then has one line that says what was expected and what came.
// Nothing here aborts on bad arguments or throws. An adapter's handle is a number that is never given
// again, so one that was freed is refused, whatever was loaded since.
//
// Threads. Calls on one context must not overlap each other nor a llama_decode on it, as in
// llama.h. Different contexts are independent. alora_last_error() is per thread.

#ifndef ALORA_H
#define ALORA_H

#include "llama.h"

#ifdef __cplusplus
extern "C" {
#endif

#define ALORA_ABI_VERSION 3

enum alora_status {
    ALORA_OK             =  0,
    ALORA_ERROR_CONTEXT  = -1, // not a live context, or one without a memory of positions
    ALORA_ERROR_ADAPTER  = -2, // not a loaded adapter
    ALORA_ERROR_ARGUMENT = -3, // sequence, start, scale or buffer out of range
    ALORA_ERROR_FILE     = -4, // the adapter file cannot be read or is damaged
    ALORA_ERROR_MISMATCH = -5, // the adapter does not fit the model of this context, or none does
    ALORA_ERROR_MEMORY   = -6, // no memory for the adapter's tensors on its device
};

// A loaded adapter; 0 is none.
typedef uint64_t alora_adapter_id;

struct alora_activation {
    alora_adapter_id adapter; // valid until alora_adapter_free
    llama_pos        start;   // first adapted position
    float            scale;   // factor on top of the adapter's own alpha / rank
};

// ALORA_ABI_VERSION of the library that is loaded.
LLAMA_API int32_t alora_abi_version(void);

// Loads ggml's backends where they are modules beside libllama (GGML_BACKEND_DL), of the CPU's the best for
// this processor; elsewhere, and a second time, it does nothing. To be called before a model is loaded.
// Returns how many backends there are, or a negative alora_status.
LLAMA_API int32_t alora_load_backends(void);

// Which kernels adapters are computed with on this processor's CPU: avx512, avx2, dotprod or generic; or scalar, which
// are some hundred times slower, where the compiler had no vector extensions.
LLAMA_API const char * alora_kernels_name(void);

// The calling thread's last error, one line, never NULL. Valid until its next alora_ call.
LLAMA_API const char * alora_last_error(void);

// Loads a GGUF adapter (general.type = adapter, adapter.type = lora) for the model of `ctx`, each
// pair of tensors beside the weight that it adapts. Every pair must have the shape of a weight
// that this model's graph multiplies through its adapted paths; anything else is refused.
// The adapter may be used with every context of the same model. On error *adapter is 0.
// Refused are contexts without a memory of positions, models with an encoder, whose passes have none either, and
// weights that are split within (LLAMA_SPLIT_MODE_TENSOR).
LLAMA_API int32_t alora_adapter_load(
        struct llama_context * ctx,
        const char           * path,
        alora_adapter_id     * adapter);

// Frees the adapter and ends its activations in every context: none that it was ever activated in may
// be decoding meanwhile. 0 is allowed.
LLAMA_API int32_t alora_adapter_free(alora_adapter_id adapter);

// Bytes of its tensors on their devices; 0, with an error, for one that is not loaded.
LLAMA_API uint64_t alora_adapter_size(alora_adapter_id adapter);

// From position `start` on, adapt the tokens of `seq_id` by `adapter`, times `scale`. Several
// adapters may be active on one sequence; the same adapter again moves its start and scale.
//
// The start is a place between cells: those before it, and those from it on. It follows them through llama_memory_*:
//   - the activation ends when the last cell from its start on is taken away, or the sequence's last one, and when
//     the sequence is given up as a whole: seq_rm(seq, -1, -1), seq_keep of another, clear. Any other call that takes
//     no cell away ends nothing;
//   - seq_add and seq_div move the start as they move the first cell from it on, or, where there is none yet, the last
//     one before it, but never past a cell. Cells that sequences share move for all of them;
//   - seq_cp brings it along, with a range from its first copied cell on. What the destination had stays, unless it had
//     no cell and gets the whole sequence, or the copy takes the place of its cells (streams, recurrent states);
//   - a state has no activations: loading one ends those of what it replaces. One of LLAMA_STATE_SEQ_FLAGS_PARTIAL_ONLY
//     is taken for an earlier state of the same sequence, and ends what begins behind it.
LLAMA_API int32_t alora_seq_activate(
        struct llama_context * ctx,
        llama_seq_id           seq_id,
        alora_adapter_id       adapter,
        llama_pos              start,
        float                  scale);

// Ends the activation of `adapter` (0: of all adapters) on `seq_id`. Returns how many ended.
LLAMA_API int32_t alora_seq_deactivate(
        struct llama_context * ctx,
        llama_seq_id           seq_id,
        alora_adapter_id       adapter);

// Writes up to n_max activations of `seq_id`, in the order in which they were made; `out` may be
// NULL if n_max is 0. Returns how many there are.
LLAMA_API int32_t alora_seq_activations(
        struct llama_context    * ctx,
        llama_seq_id              seq_id,
        struct alora_activation * out,
        int32_t                   n_max);

#ifdef __cplusplus
}
#endif

#endif // ALORA_H
