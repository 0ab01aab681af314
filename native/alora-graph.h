#pragma once

// The adapted side of a graph.

#include "alora-context.h"
#include "alora-fused.h"

#include "llama-graph.h"

#include <array>
#include <map>
#include <vector>

// What is adapted in a graph. Weights that the CPU computes get a fused node (alora-fused.h). For the
// others, on any device, there are plain ops and the scales of the ubatch's adapters as graph inputs:
// its tensors hold, one after another, a block [rank, n_rows] for each (adapter, block of the adapter),
// filled with the token's scale. All that changes from step to step is data, so a graph is reused as
// it is; with plain ops, while the adapters are the same.
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

    // Whether the rows are those of the outputs. After the last attention block only these are left.
    bool is_outputs(int64_t n_rows) const;

    // The node that fuses all that can be added to `res`, the product of `w`; nullptr where that is for plain ops.
    ggml_tensor * build_fused(ggml_context * ctx0, ggml_tensor * w, alora_role role, int64_t n_rows,
            ggml_tensor * res, std::initializer_list<ggml_tensor *> args);

    // The block of (slot, block) over the rows of `ab`, in its shape: [rank, ne1, ne2].
    ggml_tensor * build_scale(ggml_context * ctx0, size_t i_slot, size_t i_block, ggml_tensor * ab, int64_t n_rows, bool experts);

    // base + what the pair adds, where `ab` = s * A x, [rank, ...]
    ggml_tensor * build_pair(ggml_context * ctx0, size_t i_slot, const alora_pair & pair, ggml_tensor * ab, ggml_tensor * base, ggml_tensor * res);

    void fill(const input & inp, const llama_ubatch & ubatch, bool outputs_only) const;

    alora_plan_ptr plan;
    alora_fused    fused;
    bool           slots_matter = false; // there are plain ops, and they are those of the plan's adapters

    ggml_backend_sched_t sched;
    ggml_backend_t       backend_cpu;
    bool                 op_offload;

    int64_t n_ranks = 0; // over all slots and blocks

    input tokens;  // n_rows = n_tokens
    input outputs; // n_rows = n_outputs

    mutable std::vector<float> buffer;
};

// The input of this graph, owned by params.res; nullptr where nothing is active, so that such a
// graph is the upstream one, node by node.
llm_graph_input_alora * alora_graph_input(const llm_graph_params & params);
