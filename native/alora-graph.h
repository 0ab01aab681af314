#pragma once

// The adapted side of a graph.

#include "alora-context.h"

#include "llama-graph.h"

#include <array>
#include <map>
#include <vector>

// The scales of a ubatch's adapters as graph inputs, and the ops that use them. Its tensors hold,
// one after another, a block [rank, n_rows] for each (adapter, block of the adapter), filled with
// the token's scale: all that changes from step to step is data, so a graph is reused as it is.
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

private:
    struct input {
        ggml_tensor * scales = nullptr; // F32 [sum of ranks * n_rows]; created at its first use
        int64_t       n_rows = 0;

        // by slot, block and shape: a device gets a copy of each view that its ops use, so they share them
        std::map<std::array<int64_t, 5>, ggml_tensor *> views;
    };

    void see(ggml_tensor * w, alora_role role, int64_t n_rows);

    // The block of (slot, block) over the rows of `ab`, in its shape: [rank, ne1, ne2].
    ggml_tensor * build_scale(ggml_context * ctx0, size_t i_slot, size_t i_block, ggml_tensor * ab, int64_t n_rows, bool experts);

    void fill(const input & inp, const llama_ubatch & ubatch, bool outputs_only) const;

    alora_plan_ptr plan;

    int64_t n_ranks = 0; // over all slots and blocks

    input tokens;  // n_rows = n_tokens
    input outputs; // n_rows = n_outputs

    mutable std::vector<float> buffer;
};

// The input of this graph, owned by params.res; nullptr where nothing is active, so that such a
// graph is the upstream one, node by node.
llm_graph_input_alora * alora_graph_input(const llm_graph_params & params);
