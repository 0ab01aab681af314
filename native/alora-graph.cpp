#include "alora-graph.h"

#include "ggml-backend.h"

#include <algorithm>

llm_graph_input_alora * alora_graph_input(const llm_graph_params & params) {
    if (!params.alora) {
        return nullptr;
    }
    return (llm_graph_input_alora *) params.res->add_input(std::make_unique<llm_graph_input_alora>(params));
}

// Fewer rows than these cost a device nothing beside the launches, and gathering has more of them.
static constexpr int64_t N_ROWS_MIN = 32;

llm_graph_input_alora::layout::layout(const llm_graph_params & params) {
    const auto & ubatch = params.ubatch;
    // how many rows an adapter computes that is active for n of n_rows: a power of two, so that the graph seldom changes
    const auto computed = [](int64_t n, int64_t n_rows) {
        int64_t res = 1;
        while (res < n) {
            res *= 2;
        }
        return n_rows < N_ROWS_MIN || 2*res > n_rows ? n_rows : res;
    };
    for (const auto & slot : params.alora->slots) {
        int64_t n_tokens = 0, n_outputs = 0;
        for (uint32_t i = 0; i < ubatch.n_tokens; ++i) {
            n_tokens  += slot.scale[i] != 0.0f;
            n_outputs += slot.scale[i] != 0.0f && ubatch.output && ubatch.output[i];
        }
        tokens .push_back(computed(n_tokens,  ubatch.n_tokens));
        outputs.push_back(computed(n_outputs, params.n_outputs));
    }
    int64_t n_tokens = 0, n_outputs = 0;
    for (size_t i = 0; i < params.alora->alone.size(); ++i) { // none while graphs are reserved
        n_tokens  += params.alora->alone[i];
        n_outputs += params.alora->alone[i] && ubatch.output && ubatch.output[i];
    }
    const bool all_outputs = params.n_outputs == ubatch.n_tokens; // as in set_input()
    alone.n_tokens  = n_tokens ? computed(n_tokens, ubatch.n_tokens) : 0;
    alone.n_outputs = all_outputs ? alone.n_tokens : n_outputs ? computed(n_outputs, params.n_outputs) : 0;
    alone.all       = n_tokens == (int64_t) ubatch.n_tokens;
}

static int n_threads_max(const llama_cparams & cparams) { return std::max(cparams.n_threads, cparams.n_threads_batch); }

llm_graph_input_alora::llm_graph_input_alora(const llm_graph_params & params)
    : plan(params.alora), res(params.res), sched(params.sched), backend_cpu(params.backend_cpu), op_offload(params.cparams.op_offload),
      n_threads(n_threads_max(params.cparams)),
      n_tokens(params.ubatch.n_tokens), n_outputs(params.n_outputs), n_computed(params) {
}

bool llm_graph_input_alora::can_reuse(const llm_graph_params & params) {
    // same_topology() is part of allow_reuse
    if (slots_matter && !(alora_plan::same_slots(*plan, *params.alora) && n_computed == layout(params))) {
        return false;
    }
    if (rows_matter && !(n_computed.alone == layout(params).alone)) {
        return false;
    }
    if (attention_matters && plan->all_active != params.alora->all_active) {
        return false;
    }
    plan      = params.alora;
    n_threads = n_threads_max(params.cparams);
    return true;
}

void llm_graph_input_alora::set_input(const llama_ubatch * ubatch) {
    // as in llm_graph_input_out_ids: where every token is an output, the flags need not be set
    const bool all_outputs = n_outputs == n_tokens;
    fused.set_plan(*plan, ubatch->n_tokens, all_outputs ? nullptr : ubatch->output);
    rows.set_plan(*plan, ubatch->n_tokens, all_outputs ? nullptr : ubatch->output);
    for (const auto & [key, inp] : inputs) {
        fill(inp, std::get<0>(key), *ubatch, std::get<1>(key));
    }
}

void llm_graph_input_alora::set_attention(const llama_ubatch & ubatch) {
    attention.begin(plan->active, ubatch, plan->memory, n_threads);
}

void llm_graph_input_alora::fill(const input & inp, size_t i_slot, const llama_ubatch & ubatch, bool outputs_only) const {
    if (!inp.scales->buffer) {
        return; // not used by this graph
    }
    const auto & slot = plan->slots[i_slot];
    std::vector<int32_t> rows;
    std::vector<float>   scales; // of the activation
    int32_t row = 0;
    for (uint32_t i = 0; i < ubatch.n_tokens; ++i) {
        if (outputs_only && !ubatch.output[i]) {
            continue;
        }
        if (!inp.rows || slot.scale[i] != 0.0f) {
            rows.push_back(row);
            scales.push_back(slot.scale[i]);
        }
        row++;
    }
    // what is computed twice is put back twice, alike
    rows  .resize(inp.n_rows, rows  .empty() ? 0    : rows.back());
    scales.resize(inp.n_rows, scales.empty() ? 0.0f : scales.back());

    std::vector<float> buffer;
    for (const auto & block : slot.adapter->blocks) {
        for (const auto scale : scales) {
            buffer.insert(buffer.end(), block.rank, block.mask ? (scale != 0.0f ? 1.0f : 0.0f) : block.scale*scale);
        }
    }
    if (buffer.size() != (size_t) ggml_nelements(inp.scales)) {
        throw alora_error(ALORA_ERROR_MISMATCH, "adapted rows: expected " + std::to_string(ggml_nelements(inp.scales)) + " scales, got " +
                std::to_string(buffer.size()) + "; this model's graph cannot have this adapter");
    }
    ggml_backend_tensor_set(inp.scales, buffer.data(), 0, buffer.size()*sizeof(float));
    if (inp.rows) {
        ggml_backend_tensor_set(inp.rows, rows.data(), 0, rows.size()*sizeof(int32_t));
    }
}

void llm_graph_input_alora::see(ggml_tensor * w, alora_role role, int64_t n_rows) {
    if (plan->seen) {
        const bool rows_known = n_rows == n_tokens || n_rows == n_outputs;
        auto & weight = plan->seen->emplace(alora_weight_key { w->name, role }, alora_weight { w, plan->seen->size() }).first->second;
        weight.tensor = rows_known && weight.tensor ? w : nullptr;
    }
}

llm_graph_input_alora::input & llm_graph_input_alora::get_input(ggml_context * ctx0, size_t i_slot, int64_t n_rows, bool gather) {
    const bool    is_out = is_outputs(n_rows);
    const int64_t n      = (is_out ? n_computed.outputs : n_computed.tokens)[i_slot];
    gather = gather && n < n_rows;

    auto & inp = inputs[{ i_slot, is_out, gather }];
    if (!inp.scales) {
        int64_t n_ranks = 0;
        for (const auto & block : plan->slots[i_slot].adapter->blocks) {
            n_ranks += block.rank;
        }
        inp.n_rows = gather ? n : n_rows;
        inp.scales = ggml_new_tensor_1d(ctx0, GGML_TYPE_F32, n_ranks*inp.n_rows);
        ggml_set_name(inp.scales, "alora_scales");
        ggml_set_input(inp.scales);
        if (gather) {
            inp.rows = ggml_new_tensor_1d(ctx0, GGML_TYPE_I32, inp.n_rows);
            ggml_set_name(inp.rows, "alora_rows");
            ggml_set_input(inp.rows);
        }
    }
    return inp;
}

ggml_tensor * llm_graph_input_alora::build_scale(
        ggml_context * ctx0, input & inp, size_t i_slot, size_t i_block, ggml_tensor * ab, bool experts) {
    const auto &  blocks = plan->slots[i_slot].adapter->blocks;
    const int64_t rank   = blocks[i_block].rank;
    const int64_t ne1    = experts ? 1 : ab->ne[1];
    const int64_t ne2    = ab->ne[2];

    auto & view = inp.views[{ (int64_t) i_block, ne1, ne2, ab->ne[3] }];
    if (!view) {
        int64_t n_ranks_before = 0;
        for (size_t j = 0; j < i_block; ++j) {
            n_ranks_before += blocks[j].rank;
        }
        const size_t nb1 = rank*sizeof(float);
        view = ggml_view_4d(ctx0, inp.scales, rank, ne1, ne2, ab->ne[3], nb1, nb1*ne1, nb1*ne1*ne2, n_ranks_before*inp.n_rows*sizeof(float));
    }
    return view;
}

ggml_tensor * llm_graph_input_alora::build_pair(ggml_context * ctx0, input & inp, size_t i_slot,
        const alora_pair & pair, ggml_tensor * ab, ggml_tensor * base, ggml_tensor * res) {
    ggml_tensor * delta = ggml_mul_mat(ctx0, pair.b, ab);
    // v times the block, for every row: [n_out, ...]
    const auto outer = [&](ggml_tensor * v, size_t i_block) {
        return ggml_mul(ctx0, ggml_repeat(ctx0, v, delta), build_scale(ctx0, inp, i_slot, i_block, delta, false));
    };
    if (pair.magnitude) {
        res   = ggml_add(ctx0, res, ggml_mul(ctx0, base, outer(pair.magnitude_1, pair.block_mask)));
        delta = ggml_mul(ctx0, delta, pair.magnitude);
    }
    if (pair.bias) {
        delta = ggml_add(ctx0, delta, outer(pair.bias, pair.block_bias));
    }
    if (!inp.rows) {
        return ggml_add(ctx0, res, delta);
    }
    ggml_tensor * rows = ggml_reshape_2d(ctx0, res, res->ne[0], ggml_nrows(res));
    rows = ggml_set_rows(ctx0, rows, ggml_add(ctx0, ggml_get_rows(ctx0, rows, inp.rows), delta), inp.rows);
    return ggml_reshape(ctx0, rows, res);
}

bool llm_graph_input_alora::is_outputs(int64_t n_rows) const {
    if (n_rows != n_tokens && n_rows != n_outputs) {
        throw alora_error(ALORA_ERROR_MISMATCH, "adapted rows: expected the ubatch's " + std::to_string(n_tokens) + " tokens or " +
                std::to_string(n_outputs) + " outputs, got " + std::to_string(n_rows) + "; this model's graph cannot have this adapter");
    }
    return n_rows != n_tokens;
}

static bool in_cpu_memory(const ggml_tensor * w) {
    auto * buft = ggml_backend_buffer_get_type(w->buffer);
    auto * dev  = ggml_backend_buft_get_device(buft);
    return ggml_backend_buft_is_host(buft) || (dev && ggml_backend_dev_type(dev) == GGML_BACKEND_DEVICE_TYPE_CPU);
}

// Whether the CPU can read w and computes what is multiplied by it, `res`: a scheduler with other
// devices may send them the whole product of a large batch.
static bool on_cpu(const ggml_tensor * w, const ggml_tensor * res, ggml_backend_sched_t sched, bool op_offload) {
    if (!in_cpu_memory(w)) {
        return false;
    }
    for (int i = 0; op_offload && i < ggml_backend_sched_get_n_backends(sched); ++i) {
        if (ggml_backend_offload_op(ggml_backend_sched_get_backend(sched, i), res)) {
            return false;
        }
    }
    return true;
}

// Whether all rows of t are equally far from each other.
static bool has_even_rows(const ggml_tensor * t) {
    return t->nb[2] == t->ne[1]*t->nb[1] && t->nb[3] == t->ne[2]*t->nb[2];
}

ggml_tensor * llm_graph_input_alora::build_rows_alone(ggml_context * ctx0, ggml_tensor * w, ggml_tensor * cur, ggml_tensor * res) {
    const int64_t n_rows     = ggml_nrows(cur);
    const bool    is_product = res->op == GGML_OP_MUL_MAT && res->src[0] == w && res->src[1] == cur; // not one that was scaled, say
    const bool    rows_known = n_rows == n_tokens || n_rows == n_outputs;
    if (plan->ops_only || !is_product || !rows_known || cur->type != GGML_TYPE_F32 || !has_even_rows(cur) || ggml_n_dims(w) > 2 ||
            !on_cpu(w, res, sched, op_offload) || alora_rows_alike(w)) {
        return res;
    }
    rows_matter = true;
    return rows.build(ctx0, w, cur, res, n_computed.alone, is_outputs(n_rows), [&](ggml_tensor * node) {
        ggml_backend_sched_set_tensor_backend(sched, node, backend_cpu); // as the nodes of build_fused()
    });
}

ggml_tensor * llm_graph_input_alora::build_experts_alone(ggml_context * ctx0, ggml_tensor * w, ggml_tensor * cur, ggml_tensor * ids, ggml_tensor * res) {
    const int64_t n_rows     = cur->ne[2];
    const bool    is_product = res->op == GGML_OP_MUL_MAT_ID && res->src[0] == w && res->src[1] == cur && res->src[2] == ids;
    const bool    rows_known = n_rows == n_tokens || n_rows == n_outputs;
    if (plan->ops_only || !is_product || !rows_known || cur->type != GGML_TYPE_F32 || !on_cpu(w, res, sched, op_offload) || alora_experts_alike(w)) {
        return res;
    }
    rows_matter = true;
    return rows.build_experts(ctx0, w, cur, ids, res, n_computed.alone, is_outputs(n_rows), [&](ggml_tensor * node) {
        ggml_backend_sched_set_tensor_backend(sched, node, backend_cpu); // as the nodes of build_fused()
    });
}

ggml_tensor * llm_graph_input_alora::build_fused(ggml_context * ctx0, ggml_tensor * w, alora_role role, int64_t n_rows,
        ggml_tensor * res, std::initializer_list<ggml_tensor *> args) {
    const auto weight = plan->weights->find({ w->name, role });
    const size_t i_weight = weight == plan->weights->end() ? plan->touched->size() : weight->second.index;
    if (i_weight >= plan->touched->size() || !(*plan->touched)[i_weight]) {
        return res;
    }
    const auto & cur = **args.begin();
    if (plan->ops_only || !on_cpu(w, res, sched, op_offload) || res->type != GGML_TYPE_F32 || !has_even_rows(res) ||
            (role != ALORA_ROLE_ROWS && cur.type != GGML_TYPE_F32) || (role == ALORA_ROLE_MATRIX && !has_even_rows(&cur))) {
        slots_matter = true;
        return nullptr;
    }
    if (res->src[0] != w) {
        ggml_backend_sched_set_tensor_backend(sched, res, backend_cpu); // a product that was scaled, say
    }
    res = fused.build(ctx0, role, i_weight, is_outputs(n_rows), res, args);
    // a custom op is for the CPU, but an RPC device claims to support everything
    ggml_backend_sched_set_tensor_backend(sched, res, backend_cpu);
    return res;
}

// The pair of the slot's adapter for w, nullptr if there is none.
static const alora_pair * find_pair(const alora_plan & plan, const alora_slot & slot, const ggml_tensor * w, alora_role role) {
    const auto it = plan.weights->find({ w->name, role });
    return it == plan.weights->end() ? nullptr : slot.pair(it->second.index);
}

ggml_tensor * llm_graph_input_alora::build_mm(ggml_context * ctx0, ggml_tensor * w, ggml_tensor * cur, ggml_tensor * res) {
    see(w, ALORA_ROLE_MATRIX, ggml_nrows(cur));
    if (plan->slots.empty() || ggml_nelements(cur) == 0) {
        return res;
    }
    res = build_rows_alone(ctx0, w, cur, res);
    if (auto * fused_res = build_fused(ctx0, w, ALORA_ROLE_MATRIX, ggml_nrows(cur), res, { cur })) {
        return fused_res;
    }
    // Rows are put back in place, by whoever the scheduler chooses: it must be the one that holds the product, which
    // it chooses too if the CPU holds the weight. And the base's product is gone then, which a magnitude needs.
    bool gather = ggml_is_contiguous(cur) && ggml_is_contiguous(res) && (ggml_backend_sched_get_n_backends(sched) == 1 || !in_cpu_memory(w));
    for (const auto & slot : plan->slots) {
        const auto * pair = find_pair(*plan, slot, w, ALORA_ROLE_MATRIX);
        gather = gather && !(pair && pair->magnitude);
    }
    ggml_tensor * base = res;
    for (size_t i = 0; i < plan->slots.size(); ++i) {
        if (const auto * pair = find_pair(*plan, plan->slots[i], w, ALORA_ROLE_MATRIX)) {
            auto & inp = get_input(ctx0, i, ggml_nrows(cur), gather);
            ggml_tensor * x = cur;
            if (inp.rows) {
                auto & rows = inp.gathered[cur];
                x = rows = rows ? rows : ggml_get_rows(ctx0, ggml_reshape_2d(ctx0, cur, cur->ne[0], ggml_nrows(cur)), inp.rows);
            }
            ggml_tensor * ab = ggml_mul_mat(ctx0, pair->a, x); // [rank, ...]
            ab = ggml_mul(ctx0, ab, build_scale(ctx0, inp, i, pair->block, ab, false));
            res = build_pair(ctx0, inp, i, *pair, ab, base, res);
        }
    }
    return res;
}

ggml_tensor * llm_graph_input_alora::build_mm_id(ggml_context * ctx0, ggml_tensor * w, ggml_tensor * cur, ggml_tensor * ids, ggml_tensor * res) {
    see(w, ALORA_ROLE_EXPERTS, cur->ne[2]);
    if (plan->slots.empty() || ggml_nelements(cur) == 0) {
        return res;
    }
    res = build_experts_alone(ctx0, w, cur, ids, res);
    if (auto * fused_res = build_fused(ctx0, w, ALORA_ROLE_EXPERTS, cur->ne[2], res, { cur, ids })) {
        return fused_res;
    }
    for (size_t i = 0; i < plan->slots.size(); ++i) {
        if (const auto * pair = find_pair(*plan, plan->slots[i], w, ALORA_ROLE_EXPERTS)) {
            ggml_tensor * ab = ggml_mul_mat_id(ctx0, pair->a, cur, ids); // [rank, n_expert_used, n_rows]
            ab = ggml_mul(ctx0, ab, build_scale(ctx0, get_input(ctx0, i, ab->ne[2], false), i, pair->block, ab, true));
            res = ggml_add(ctx0, res, ggml_mul_mat_id(ctx0, pair->b, ab, ids));
        }
    }
    return res;
}

ggml_tensor * llm_graph_input_alora::build_rows(ggml_context * ctx0, ggml_tensor * w, ggml_tensor * tokens_in, ggml_tensor * res) {
    see(w, ALORA_ROLE_ROWS, ggml_nelements(tokens_in));
    if (plan->slots.empty()) {
        return res;
    }
    if (auto * fused_res = build_fused(ctx0, w, ALORA_ROLE_ROWS, ggml_nelements(tokens_in), res, { tokens_in })) {
        return fused_res;
    }
    ggml_tensor * base = res;
    for (size_t i = 0; i < plan->slots.size(); ++i) {
        if (const auto * pair = find_pair(*plan, plan->slots[i], w, ALORA_ROLE_ROWS)) {
            ggml_tensor * ab = ggml_get_rows(ctx0, pair->a, tokens_in); // [rank, n_tokens]
            auto & inp = get_input(ctx0, i, ab->ne[1], false);
            ab = ggml_mul(ctx0, ab, build_scale(ctx0, inp, i, pair->block, ab, false));
            res = build_pair(ctx0, inp, i, *pair, ab, base, res);
        }
    }
    return res;
}

// Inputs are set in the order in which they were added: this one after the masks.
class llm_graph_input_alora_attn : public llm_graph_input_i {
public:
    explicit llm_graph_input_alora_attn(llm_graph_input_alora * alora) : alora(alora) {}
    virtual ~llm_graph_input_alora_attn() = default;

    void set_input(const llama_ubatch * ubatch) override { alora->set_attention(*ubatch); }

    bool can_reuse(const llm_graph_params &) override { return true; } // what matters the other one looks at

private:
    llm_graph_input_alora * alora; // of the same result
};

ggml_tensor * llm_graph_input_alora::build_attn(ggml_context * ctx0, ggml_tensor * flash) {
    if (plan->slots.empty() || plan->ops_only || !attention.takes(flash)) {
        return flash;
    }
    for (const auto * cells : { flash->src[1], flash->src[2] }) {
        const auto * cache = cells->view_src ? cells->view_src : cells;
        if (!cache->buffer || !on_cpu(cache, flash, sched, op_offload)) {
            return flash;
        }
    }
    attention_matters = true;
    if (attention.empty()) {
        res->add_input(std::make_unique<llm_graph_input_alora_attn>(this));
    }
    // a token of the base has the very attention that it has without the patch
    return attention.build(ctx0, flash, !plan->all_active, [&](ggml_tensor * node) {
        ggml_backend_sched_set_tensor_backend(sched, node, backend_cpu); // as the nodes of build_fused()
    });
}
