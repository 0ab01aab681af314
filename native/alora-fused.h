#pragma once

// The fused way to apply adapters, for weights that the CPU computes: one node a weight, in place on
// the result of the base product. Every token that has an adapter on the weight gets its own pair's
// update, in F32 arithmetic; the others cost nothing. What the node reads about tokens and adapters
// is looked up while it runs, so one graph serves whatever is active.

#include "alora-barrier.h"
#include "alora-context.h"
#include "alora-cpu.h"

#include <atomic>
#include <cstdint>
#include <deque>
#include <initializer_list>
#include <utility>
#include <vector>

// One adapter's tokens among the rows of an activation.
struct alora_group {
    const alora_slot * slot;
    std::vector<int32_t> rows;
    std::vector<float>   scales; // of the activation
};

// The nodes of one graph and what they share.
class alora_fused {
public:
    // res + what the adapters add, in place
    //   MATRIX   args: cur [n_in, ...]                              res [n_out, ...]
    //   EXPERTS  args: cur [n_in, n_expert_used or 1, n_rows], ids   res [n_out, n_expert_used, n_rows]
    //   ROWS     args: tokens I32 [n_rows]                          res [n_embd, n_rows]
    // outputs: the rows are the outputs of the ubatch, not its tokens.
    ggml_tensor * build(ggml_context * ctx0, alora_role role, size_t i_weight, bool outputs,
            ggml_tensor * res, std::initializer_list<ggml_tensor *> args);

    // Before the graph is computed: all that the threads need is made here. is_output: nullptr where every token is one.
    void set_plan(const alora_plan & plan, uint32_t n_tokens, const int8_t * is_output);

private:
    struct use {
        const alora_group * group;
        const alora_pair  * pair;
    };

    struct node {
        alora_fused * fused;
        alora_role    role;
        size_t        i_weight;
        bool          outputs;

        std::vector<use> uses; // of the plan; each has rows

        // of the uses that have a magnitude: rows and g - 1, by row
        std::vector<std::pair<int32_t, const float *>> magnitudes_1;

        std::atomic<const node *> next { nullptr }; // the one after it, once the graph has been computed

        // Where threads share rows: there are as many parts as threads, and who is there takes the next one.
        alignas(64) std::atomic<int> next_a { 0 };
        std::atomic<int>             next_b { 0 };
        alora_barrier                u_is_there;

        node(alora_fused * fused, alora_role role, size_t i_weight, bool outputs)
            : fused(fused), role(role), i_weight(i_weight), outputs(outputs) {}
    };

    struct unit; // one use with some of its tokens
    struct alignas(64) line { float values[16]; }; // threads write next to each other

    // Calls f with every unit of the node, always in the same order.
    template <typename F> void for_each_unit(const node & node, const ggml_tensor * dst, F && f);

    void scale_base(const node & node, ggml_tensor * dst, int64_t i0, int64_t i1) const;

    static void compute(ggml_tensor * dst, int ith, int nth, void * userdata);

    std::deque<node> nodes; // the graph has their addresses
    node * last = nullptr;  // that the first thread has computed

    std::vector<alora_group> tokens;
    std::vector<alora_group> outputs;
    bool disjoint = true; // no token has two adapters

    int64_t           n_experts = 1; // that a token uses, at most
    std::vector<line> scratch;       // s * A x of every (token, adapter, expert)

    const alora_kernel kernel = alora_kernels_get().rows;
};
