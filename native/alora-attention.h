#pragma once

// Attention of adapted tokens on the CPU. ggml's reads the cells of a conversation anew for every token
// and every head; intrinsics of one conversation share nearly all of theirs. Here a cell is read once for
// all the tokens that see it and all the heads that share it. An adapted token has this attention
// whatever is beside it, so that its sums do not depend on that.

#include "alora-barrier.h"
#include "alora-cpu.h"

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <vector>

class alora_attention {
public:
    alora_attention();
    ~alora_attention();

    // Whether a graph's ggml_flash_attn_ext is for build(); where its cache lies is for the caller to know.
    bool takes(const ggml_tensor * flash) const;

    // The node in place of `flash`: as its operands say,
    //   q F32 [dk, n_tokens, n_head], k [dk, n_kv, n_head_kv], v [dv, n_kv, n_head_kv],
    //   mask F16 [n_kv, n_tokens] of 0 and -inf, sinks F32 [n_head] or none
    // -> F32 [dv, n_head, n_tokens], in F32 arithmetic.
    // mixed: tokens of the base have their rows of `flash`, which then sees nothing for the others.
    // place: called with every new node that is for the CPU.
    ggml_tensor * build(ggml_context * ctx0, ggml_tensor * flash, bool mixed, const std::function<void(ggml_tensor *)> & place);

    // Before the graph is computed: its masks are others than before. active: a flag for every token.
    void begin(const std::vector<uint8_t> & active) {
        this->active = active;
        ++n_computed;
    }

    static constexpr int64_t N_TOKENS_MAX = 512; // more would need much memory

private:
    struct node {
        alora_attention * attention;
        float             scale;
        bool              mixed;
    };
    struct thread; // what one keeps from node to node
    struct pass;   // of one through a node
    struct alignas(64) line { float values[16]; };

    static void compute     (ggml_tensor * dst, int ith, int nth, void * userdata);
    static void mask_of_base(ggml_tensor * dst, int ith, int nth, void * userdata);

    std::deque<node>    nodes; // the graph has their addresses
    std::map<const ggml_tensor *, ggml_tensor *> masks; // of the base's tokens, by that of all
    std::vector<thread> threads;
    alora_barrier       barrier;
    uint64_t            n_computed = 0;
    std::vector<uint8_t> active; // by token

    const alora_attention_kernel kernel = alora_kernels_get().attention;
};
