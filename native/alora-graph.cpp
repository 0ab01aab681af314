#include "alora-graph.h"

#include "ggml-backend.h"

llm_graph_input_alora * alora_graph_input(const llm_graph_params & params) {
    if (!params.alora) {
        return nullptr;
    }
    return (llm_graph_input_alora *) params.res->add_input(std::make_unique<llm_graph_input_alora>(params));
}

llm_graph_input_alora::llm_graph_input_alora(const llm_graph_params & params) : plan(params.alora) {
    for (const auto & slot : plan->slots) {
        for (const auto & block : slot.adapter->blocks) {
            n_ranks += block.rank;
        }
    }
    tokens.n_rows  = params.ubatch.n_tokens;
    outputs.n_rows = params.n_outputs;
}

bool llm_graph_input_alora::can_reuse(const llm_graph_params & params) {
    plan = params.alora; // same_topology() is part of allow_reuse
    return true;
}

void llm_graph_input_alora::set_input(const llama_ubatch * ubatch) {
    fill(tokens,  *ubatch, false);
    // as in llm_graph_input_out_ids: where every token is an output, the flags need not be set
    fill(outputs, *ubatch, outputs.n_rows != tokens.n_rows);
}

void llm_graph_input_alora::fill(const input & inp, const llama_ubatch & ubatch, bool outputs_only) const {
    if (!inp.scales || !inp.scales->buffer) {
        return; // not used by this graph
    }
    buffer.clear();
    for (const auto & slot : plan->slots) {
        for (const auto & block : slot.adapter->blocks) {
            for (uint32_t i = 0; i < ubatch.n_tokens; ++i) {
                if (!outputs_only || ubatch.output[i]) {
                    buffer.insert(buffer.end(), block.rank, block.scale*slot.scale[i]);
                }
            }
        }
    }
    GGML_ASSERT(buffer.size() == (size_t) ggml_nelements(inp.scales));
    ggml_backend_tensor_set(inp.scales, buffer.data(), 0, buffer.size()*sizeof(float));
}

void llm_graph_input_alora::see(ggml_tensor * w, alora_role role, int64_t n_rows) {
    if (plan->seen) {
        const bool rows_known = n_rows == tokens.n_rows || n_rows == outputs.n_rows;
        auto & weight = plan->seen->emplace(alora_weight_key { w->name, role }, w).first->second;
        weight = rows_known && weight ? w : nullptr;
    }
}

ggml_tensor * llm_graph_input_alora::build_scale(
        ggml_context * ctx0, size_t i_slot, size_t i_block, ggml_tensor * ab, int64_t n_rows, bool experts) {
    // after the last attention block only the output rows are left
    auto & inp = n_rows == tokens.n_rows ? tokens : outputs;
    GGML_ASSERT(n_rows == inp.n_rows && "rows are neither the tokens nor the outputs of the ubatch");

    if (!inp.scales) {
        inp.scales = ggml_new_tensor_1d(ctx0, GGML_TYPE_F32, n_ranks*n_rows);
        ggml_set_name(inp.scales, &inp == &tokens ? "alora_scale_tokens" : "alora_scale_outputs");
        ggml_set_input(inp.scales);
    }

    const int64_t rank = ab->ne[0];
    const int64_t ne1  = experts ? 1 : ab->ne[1];
    const int64_t ne2  = ab->ne[2];

    auto & view = inp.views[{ (int64_t) i_slot, (int64_t) i_block, ne1, ne2, ab->ne[3] }];
    if (!view) {
        int64_t n_ranks_before = 0;
        for (size_t i = 0; i <= i_slot; ++i) {
            const auto & blocks = plan->slots[i].adapter->blocks;
            for (size_t j = 0; j < (i == i_slot ? i_block : blocks.size()); ++j) {
                n_ranks_before += blocks[j].rank;
            }
        }
        const size_t nb1 = rank*sizeof(float);
        view = ggml_view_4d(ctx0, inp.scales, rank, ne1, ne2, ab->ne[3], nb1, nb1*ne1, nb1*ne1*ne2, n_ranks_before*n_rows*sizeof(float));
    }
    return view;
}

ggml_tensor * llm_graph_input_alora::build_mm(ggml_context * ctx0, ggml_tensor * w, ggml_tensor * cur, ggml_tensor * res) {
    see(w, ALORA_ROLE_MATRIX, ggml_nrows(cur));
    for (size_t i = 0; i < plan->slots.size(); ++i) {
        const auto * pair = plan->slots[i].adapter->pair(w, ALORA_ROLE_MATRIX);
        if (pair && ggml_nelements(cur) > 0) {
            ggml_tensor * ab = ggml_mul_mat(ctx0, pair->a, cur); // [rank, ...]
            ab = ggml_mul(ctx0, ab, build_scale(ctx0, i, pair->block, ab, ggml_nrows(ab), false));
            res = ggml_add(ctx0, res, ggml_mul_mat(ctx0, pair->b, ab));
        }
    }
    return res;
}

ggml_tensor * llm_graph_input_alora::build_mm_id(ggml_context * ctx0, ggml_tensor * w, ggml_tensor * cur, ggml_tensor * ids, ggml_tensor * res) {
    see(w, ALORA_ROLE_EXPERTS, cur->ne[2]);
    for (size_t i = 0; i < plan->slots.size(); ++i) {
        const auto * pair = plan->slots[i].adapter->pair(w, ALORA_ROLE_EXPERTS);
        if (pair && ggml_nelements(cur) > 0) {
            ggml_tensor * ab = ggml_mul_mat_id(ctx0, pair->a, cur, ids); // [rank, n_expert_used, n_rows]
            ab = ggml_mul(ctx0, ab, build_scale(ctx0, i, pair->block, ab, ab->ne[2], true));
            res = ggml_add(ctx0, res, ggml_mul_mat_id(ctx0, pair->b, ab, ids));
        }
    }
    return res;
}

ggml_tensor * llm_graph_input_alora::build_rows(ggml_context * ctx0, ggml_tensor * w, ggml_tensor * tokens_in, ggml_tensor * res) {
    see(w, ALORA_ROLE_ROWS, ggml_nelements(tokens_in));
    for (size_t i = 0; i < plan->slots.size(); ++i) {
        const auto * pair = plan->slots[i].adapter->pair(w, ALORA_ROLE_ROWS);
        if (pair) {
            ggml_tensor * ab = ggml_get_rows(ctx0, pair->a, tokens_in); // [rank, n_tokens]
            ab = ggml_mul(ctx0, ab, build_scale(ctx0, i, pair->block, ab, ab->ne[1], false));
            res = ggml_add(ctx0, res, ggml_mul_mat(ctx0, pair->b, ab));
        }
    }
    return res;
}
