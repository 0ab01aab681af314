#pragma once

// The hooks in llama_memory_* and in the reading of states: what they do to cells, they do to activations. They know
// a memory but not its context, and none throws through the C surface.

#include "alora-context.h"

#include "llama-io.h"

void alora_memory_clear   (llama_memory_i * mem) noexcept;
void alora_memory_seq_keep(llama_memory_i * mem, llama_seq_id seq_id) noexcept; // after it
void alora_memory_seq_add (llama_memory_i * mem, llama_seq_id seq_id, llama_pos p0, llama_pos p1, llama_pos delta) noexcept;
void alora_memory_seq_div (llama_memory_i * mem, llama_seq_id seq_id, llama_pos p0, llama_pos p1, int d) noexcept;

// A removal can fail (recurrent memories cannot be cut), and what it has removed shows only
// afterwards: applied when the scope ends.
struct alora_memory_seq_rm {
    alora_memory_seq_rm(llama_memory_i * mem, llama_seq_id seq_id, llama_pos p0, llama_pos p1) noexcept;
    ~alora_memory_seq_rm();

private:
    alora_context * alora;
    llama_seq_id    seq_id;
    bool            whole;
};

// Room for what the copy has is made before it. Without room there is no copy, so that the next decode on it
// fails: a copy without its activations would answer wrongly.
struct alora_memory_seq_cp {
    alora_memory_seq_cp(llama_memory_i * mem, llama_seq_id src, llama_seq_id dst, llama_pos p0, llama_pos p1) noexcept;
    ~alora_memory_seq_cp();

    bool ok = true;

private:
    alora_context * alora;
    llama_seq_id    dst;
    std::vector<alora_context::activation> acts;
};

// Around the reading of a state: sees whether cells came, and applies that when it ends, also by an exception.
class alora_state_read : public llama_io_read_i {
public:
    alora_state_read(alora_context & alora, llama_io_read_i & io, llama_seq_id seq_id, llama_state_seq_flags flags);
    ~alora_state_read() override;

    void   read       (void * dst, size_t size) override { io.read(dst, size); }
    void   read_tensor(ggml_tensor * tensor, size_t offset, size_t size) override;
    void   discard    () override { io.discard(); }
    size_t n_bytes    () override { return io.n_bytes(); }

private:
    alora_context &   alora;
    llama_io_read_i & io;
    llama_seq_id      seq_id; // -1: the whole state
    bool              partial;
    bool              came = false;
    const int         n_exceptions;
};
