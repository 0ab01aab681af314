#pragma once

// What an exception becomes before it would leave llama.cpp's C surface, where it ends the process.

#include "alora-system.h"

#include "llama-cparams.h"
#include "llama-impl.h"
#include "llama-memory.h"

#include "ggml.h"

#include <array>
#include <exception>
#include <new>

// Sets the flag again if what it was cleared for fails.
struct alora_again {
    bool & flag;
    const int n_exceptions = std::uncaught_exceptions();

    explicit alora_again(bool & flag) : flag(flag) {}
    ~alora_again() { flag = flag || std::uncaught_exceptions() > n_exceptions; }
};

// Throws unless there is memory for ggml's scheduler of graphs of so many nodes, in one piece: ggml_backend_sched_new looks at
// nothing that it is given, and writes to address 0 where that was nothing.
inline void alora_check_memory(size_t n_nodes, size_t n_backends, bool is_parallel) {
    constexpr size_t n_inputs = 2*30;             // 2*GGML_SCHED_MAX_SPLIT_INPUTS, which are ggml's own
    const size_t n_copies = is_parallel ? 4 : 1;  // GGML_SCHED_MAX_COPIES
    const size_t graph    = ggml_graph_overhead_custom(n_nodes, false);
    const size_t splits   = n_nodes * n_inputs * sizeof(ggml_tensor);
    const size_t backends = n_nodes * (1 + n_inputs) * 4*sizeof(int);
    const size_t hash     = 2*n_nodes * (2*sizeof(void *) + sizeof(int) + n_backends*n_copies*sizeof(void *)); // up to the next of its primes
    alora_pages room(graph + splits + backends + hash); // not malloc, which keeps more for later once such a block has come back
}

// Gives back the cells of a batch that an exception ended: llama.cpp puts them in to try whether they fit, and takes
// them out again only if all goes well. A recurrent state stays as it is.
struct alora_rollback {
    llama_memory_i * memory; // may be nullptr
    const llama_seq_id n_seqs;
    const int n_exceptions = std::uncaught_exceptions();
    std::array<llama_pos, LLAMA_MAX_SEQ> last;

    alora_rollback(llama_memory_i * memory, uint32_t n_seqs) : memory(memory), n_seqs(memory ? (llama_seq_id) n_seqs : 0) {
        for (llama_seq_id i = 0; i < this->n_seqs; ++i) {
            last[i] = memory->seq_pos_max(i);
        }
    }
    ~alora_rollback() {
        for (llama_seq_id i = 0; i < n_seqs && std::uncaught_exceptions() > n_exceptions; ++i) {
            if (memory->seq_pos_max(i) > last[i]) {
                memory->seq_rm(i, last[i] + 1, -1);
            }
        }
    }
};

// Logs it, and says whether memory ended.
inline bool alora_is_memory(const char * func, const std::exception & e) {
    const bool res = dynamic_cast<const std::bad_alloc *>(&e);
    if (res) {
        LLAMA_LOG_ERROR("%s: expected memory to compute in, got: %s\n", func, e.what());
    } else {
        LLAMA_LOG_ERROR("%s: %s\n", func, e.what());
    }
    return res;
}

inline ggml_status alora_status_of(const char * func, const std::exception & e) {
    return alora_is_memory(func, e) ? GGML_STATUS_ALLOC_FAILED : GGML_STATUS_FAILED;
}

// As of llama_decode: -2 nothing was computed for want of memory, -3 for another reason.
inline int32_t alora_result_of(const char * func, const std::exception & e) {
    return alora_is_memory(func, e) ? -2 : -3;
}
