#include "alora-memory.h"

#include "llama-impl.h"

#include <exception>
#include <limits>

static llama_pos first_pos(llama_pos p0) { return p0 < 0 ? 0 : p0; }
static llama_pos end_pos  (llama_pos p1) { return p1 < 0 ? std::numeric_limits<llama_pos>::max() : p1; }

void alora_memory_clear(llama_memory_i * mem) noexcept {
    if (auto * alora = alora_context_of(mem)) {
        alora->clear();
    }
}

void alora_memory_seq_keep(llama_memory_i * mem, llama_seq_id seq_id) noexcept {
    if (auto * alora = alora_context_of(mem)) {
        alora->seq_keep(seq_id);
    }
}

void alora_memory_seq_add(llama_memory_i * mem, llama_seq_id seq_id, llama_pos p0, llama_pos p1, llama_pos delta) noexcept {
    auto * alora = alora_context_of(mem);
    if (alora && alora->is_seq(seq_id) && delta != 0) {
        alora->shift({ seq_id, first_pos(p0), end_pos(p1), delta, 1 });
    }
}

void alora_memory_seq_div(llama_memory_i * mem, llama_seq_id seq_id, llama_pos p0, llama_pos p1, int d) noexcept {
    auto * alora = alora_context_of(mem);
    if (alora && alora->is_seq(seq_id) && d > 1) {
        alora->shift({ seq_id, first_pos(p0), end_pos(p1), 0, d });
    }
}

alora_memory_seq_rm::alora_memory_seq_rm(llama_memory_i * mem, llama_seq_id seq_id, llama_pos p0, llama_pos p1) noexcept
    : alora(alora_context_of(mem)), seq_id(seq_id), whole(p0 < 0 && p1 < 0) {
    if (alora) {
        alora->note_last();
    }
}

alora_memory_seq_rm::~alora_memory_seq_rm() {
    if (!alora) {
        return;
    }
    alora->end_lost();
    if (whole) {
        alora->end_empty(seq_id);
    }
}

alora_memory_seq_cp::alora_memory_seq_cp(llama_memory_i * mem, llama_seq_id src, llama_seq_id dst, llama_pos p0, llama_pos p1) noexcept
    : alora(alora_context_of(mem)), dst(dst) {
    if (!alora || src == dst || !alora->is_seq(src) || !alora->is_seq(dst)) {
        alora = nullptr;
        return;
    }
    try {
        acts = alora->copied(src, dst, first_pos(p0), end_pos(p1), p0 <= 0 && p1 < 0);
    } catch (const std::exception & e) {
        LLAMA_LOG_ERROR("%s: sequence %d: expected memory for the activations that it gets from %d, got: %s; nothing was copied\n",
                __func__, dst, src, e.what());
        alora = nullptr;
        ok    = false;
    }
}

alora_memory_seq_cp::~alora_memory_seq_cp() {
    if (alora) {
        alora->replace(dst, std::move(acts));
    }
}

alora_state_read::alora_state_read(alora_context & alora, llama_io_read_i & io, llama_seq_id seq_id, llama_state_seq_flags flags)
    : alora(alora), io(io), seq_id(seq_id), partial(flags & LLAMA_STATE_SEQ_FLAGS_PARTIAL_ONLY), n_exceptions(std::uncaught_exceptions()) {
    alora.note_last();
}

alora_state_read::~alora_state_read() {
    const bool failed = std::uncaught_exceptions() > n_exceptions;
    if (!partial && (came || (seq_id < 0 && !failed))) {
        alora.clear(seq_id);
    } else {
        alora.end_lost();
    }
}

void alora_state_read::read_tensor(ggml_tensor * tensor, size_t offset, size_t size) {
    came = came || size > 0;
    io.read_tensor(tensor, offset, size);
}
