#pragma once

// The adapted side of a graph.

#include "alora-attention.h"
#include "alora-context.h"
#include "alora-fused.h"
#include "alora-rows.h"

#include "llama-graph.h"

#include <array>
#include <map>
#include <tuple>
#include <vector>

// What is adapted in a graph. Weights that the CPU computes get a fused node (alora-fused.h). For the
// others, on any device, there are plain ops, adapter by adapter:
//   - one that is active for most rows computes all of them: A, times scales that are 0 for the other
//     rows, B, added. Four launches, the fewest that there can be, and what few adapters want;
//   - one that is active for few of many rows computes these alone: gathered, A, times their scales, B,
//     put back in place. It costs in proportion to its tokens, whatever the number of adapters.
// Two more ways have four launches for any number of adapters, and are not taken (docs/benchmarks/device-ways.md
// has the times): stacks and ggml_mul_mat_id, where rows without an adapter pay for a slot of zeros, and the ranks
// of all in one matrix, where every row pays for every adapter. Both need copies of the weights, made again as
// adapters come and go. What speaks for them is a device on which launches cost more than that.
// What the ops read about the tokens are graph inputs, so a graph is reused as it is while the adapters
// are the same and each computes about as many rows as before.
class llm_graph_input_alora : public llm_graph_input_i {
public:
    llm_graph_input_alora(const llm_graph_params & params);
    virtual ~llm_graph_input_alora() = default;

    void set_input(const llama_ubatch * ubatch) override;

    bool can_reuse(const llm_graph_params & params) override;

    // res + B A cur, for the tokens that have an adapter on w
    //   cur  [n_in,  ...] over n_tokens or n_outputs rows
    //   res  [n_out, ...]
    ggml_tensor * build_mm(ggml_context * ctx0, ggml_tensor * w, ggml_tensor * cur, ggml_tensor * res);

    //   cur  [n_in,  n_expert_used or 1, n_rows], ids I32 [n_expert_used, n_rows]
    //   res  [n_out, n_expert_used,      n_rows]
    ggml_tensor * build_mm_id(ggml_context * ctx0, ggml_tensor * w, ggml_tensor * cur, ggml_tensor * ids, ggml_tensor * res);

    //   tokens I32 [n_tokens]
    //   res    [n_embd, n_tokens]
    ggml_tensor * build_rows(ggml_context * ctx0, ggml_tensor * w, ggml_tensor * tokens, ggml_tensor * res);

    // flash, the node of ggml_flash_attn_ext, or one of alora_attention in its place
    ggml_tensor * build_attn(ggml_context * ctx0, ggml_tensor * flash);

    // Once the inputs before it are set: the masks of the attention.
    void set_attention(const llama_ubatch & ubatch);

private:
    // What the plain ops of one adapter read about the rows that they compute.
    struct input {
        int64_t       n_rows = 0;
        ggml_tensor * scales = nullptr; // F32: a block [rank, n_rows] after another, filled with the tokens' scales
        ggml_tensor * rows   = nullptr; // I32 [n_rows]: which ones; nullptr: all

        // by block and shape: a device gets a copy of each view that its ops use, so they share them
        std::map<std::array<int64_t, 4>, ggml_tensor *> views;
        std::map<const ggml_tensor *, ggml_tensor *> gathered; // `rows` of an activation: several weights multiply it
    };

    // How many rows each slot's adapter is computed for, of the tokens or of the outputs.
    struct layout {
        std::vector<int64_t> tokens;
        std::vector<int64_t> outputs;
        alora_rows::layout   alone;

        explicit layout(const llm_graph_params & params);
        bool operator==(const layout & other) const { return tokens == other.tokens && outputs == other.outputs; }
    };

    void see(ggml_tensor * w, alora_role role, int64_t n_rows);

    // Whether the rows are those of the outputs. After the last attention block only these are left. Throws if they are neither.
    bool is_outputs(int64_t n_rows) const;

    // The product of w by cur, `res`, whose rows are alone where they have to be.
    ggml_tensor * build_rows_alone(ggml_context * ctx0, ggml_tensor * w, ggml_tensor * cur, ggml_tensor * res);
    ggml_tensor * build_experts_alone(ggml_context * ctx0, ggml_tensor * w, ggml_tensor * cur, ggml_tensor * ids, ggml_tensor * res);

    // The node that fuses all that can be added to `res`, the product of `w`; nullptr where that is for plain ops.
    ggml_tensor * build_fused(ggml_context * ctx0, ggml_tensor * w, alora_role role, int64_t n_rows,
            ggml_tensor * res, std::initializer_list<ggml_tensor *> args);

    // That of the slot for activations of `n_rows`; gather: computes some of them, if the layout has it so.
    input & get_input(ggml_context * ctx0, size_t i_slot, int64_t n_rows, bool gather);

    // The block over the rows of `ab`, in its shape: [rank, ne1, ne2].
    ggml_tensor * build_scale(ggml_context * ctx0, input & inp, size_t i_slot, size_t i_block, ggml_tensor * ab, bool experts);

    // res + what the pair adds, where `ab` = s * A x, [rank, ...]
    ggml_tensor * build_pair(ggml_context * ctx0, input & inp, size_t i_slot, const alora_pair & pair, ggml_tensor * ab, ggml_tensor * base, ggml_tensor * res);

    void fill(const input & inp, size_t i_slot, const llama_ubatch & ubatch, bool outputs_only) const;

    alora_plan_ptr  plan;
    alora_fused     fused;
    alora_rows      rows;
    alora_attention attention;
    bool            slots_matter      = false; // there are plain ops, and they are those of the plan's adapters
    bool            rows_matter       = false; // some rows are computed alone
    bool            attention_matters = false; // adapted tokens have an attention of their own, and all are adapted or not all

    llm_graph_result *   res;
    ggml_backend_sched_t sched;
    ggml_backend_t       backend_cpu;
    bool                 op_offload;
    int                  n_threads;

    int64_t n_tokens;
    int64_t n_outputs;
    layout  n_computed;

    std::map<std::tuple<size_t, bool, bool>, input> inputs; // by slot, whether of the outputs, whether gathered
};

// The input of this graph, owned by params.res; nullptr where nothing is active, so that such a
// graph is the upstream one, node by node.
llm_graph_input_alora * alora_graph_input(const llm_graph_params & params);
