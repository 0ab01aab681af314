#pragma once

// What is active on the sequences of one llama_context, and what that means for a ubatch.

#include "alora-adapter.h"
#include "alora-cells.h"

#include <cstdint>
#include <memory>
#include <set>
#include <unordered_map>
#include <vector>

struct llama_context;
struct llama_ubatch;

struct alora_context;

// One adapter of a ubatch with its scale for each token. The graph result keeps a plan to compare
// the next one with, by when the adapter may be gone: there, only the id is looked at.
struct alora_slot {
    uint64_t              id;
    const alora_adapter * adapter;
    std::vector<float>    scale; // F32 [n_tokens], 0 where the adapter is not active

    const std::vector<const alora_pair *> * pairs; // by alora_weight::index

    const alora_pair * pair(size_t i_weight) const { return i_weight < pairs->size() ? (*pairs)[i_weight] : nullptr; }
};

// What the graph of one ubatch has to add to the base model.
struct alora_plan {
    std::vector<alora_slot> slots; // by adapter id

    const alora_weights *  weights = nullptr;
    const llama_memory_i * memory  = nullptr; // the context's
    bool                  ops_only   = false; // nothing is fused
    bool                  all_active = false; // every token has an adapter
    std::vector<uint8_t>  active;             // by token, whether it has
    std::vector<uint8_t>  alone;              // by token, whether its products must not depend on those beside it (alora-rows.h)

    // By alora_weight::index: whether an adapter that this context has used has a pair for it. These
    // weights get a fused node, so that the graph is the same for all of the context's adapters.
    std::shared_ptr<const std::vector<bool>> touched;

    alora_weights * seen = nullptr; // while graphs are reserved: collects the adapted paths

    static bool same_topology(const alora_plan * lhs, const alora_plan * rhs);
    static bool same_slots   (const alora_plan & lhs, const alora_plan & rhs);
};

using alora_plan_ptr = std::shared_ptr<const alora_plan>;

struct alora_context {
    explicit alora_context(llama_context * ctx);
    ~alora_context();

    alora_context(const alora_context &) = delete;
    alora_context & operator=(const alora_context &) = delete;

    //
    // the table of activations
    //

    struct activation {
        alora_adapter_ptr adapter;
        llama_pos         start;
        float             scale;
    };

    // Throws alora_error if the adapter does not fit.
    void activate  (llama_seq_id seq_id, const alora_adapter_ptr & adapter, llama_pos start, float scale);
    int  deactivate(llama_seq_id seq_id, const alora_adapter * adapter); // nullptr: all
    void forget    (const alora_adapter * adapter);                      // on every sequence

    const std::vector<activation> & activations(llama_seq_id seq_id) const;

    bool is_seq(llama_seq_id seq_id) const { return seq_id >= 0 && (size_t) seq_id < table.size(); }

    //
    // what happens to the cells happens to the activations (alora.h says how); nothing of it throws, but for the copy
    //

    void clear();
    void clear(llama_seq_id seq_id); // -1: every sequence

    // before and after whatever may take cells away
    void note_last();
    void end_lost();
    void end_empty(llama_seq_id seq_id); // of a sequence that has no cell; -1: of every one, if none has

    // before
    std::vector<activation> copied(llama_seq_id src, llama_seq_id dst, llama_pos p0, llama_pos p1, bool whole) const; // what dst will have
    void shift(const alora_shift & shift);

    // after
    void replace (llama_seq_id seq_id, std::vector<activation> && acts);
    void seq_keep(llama_seq_id seq_id);

    //
    // graphs
    //

    // Between begin and end, plan() is that of the ubatch; else that of a reserve.
    // False, with the reason in the log, if two sequences of one token disagree or memory ends.
    bool begin(const llama_ubatch & ubatch) noexcept;
    void end();

    alora_plan_ptr plan() const { return current; }

    // Nodes to budget for beside the base model's.
    uint32_t n_nodes_max() const { return n_nodes_budget; }

    // True once after the budget has grown.
    bool take_need_reserve();

    alora_weights weights;

    // what other threads may ask, only with the lock of the live contexts
    std::set<uint64_t>     used;             // ids of the adapters that have been activated
    const llama_memory_i * memory = nullptr; // the context's, once an adapter has been

private:
    llama_context * ctx;

    void touch();

    // by id: the pairs of the adapters that this context has used, which so fit its weights
    std::unordered_map<uint64_t, std::vector<const alora_pair *>> resolved;

    std::shared_ptr<const std::vector<bool>> touched; // the weights of all of these

    struct sequence {
        std::vector<activation> acts;
        llama_pos               last = -1; // its last cell, noted before a call
    };

    std::vector<sequence> table; // by llama_seq_id; empty before the first activation

    alora_plan_ptr plan_of(const llama_ubatch & ubatch) const; // throws

    alora_plan_ptr reserve_plan;
    alora_plan_ptr current;

    uint32_t n_nodes_budget = 0;
    bool     need_reserve   = false;

    // ALORA_GRAPH=ops in the environment when the context is made: weights on the CPU are adapted by
    // plain ops too, as on any other device, so that tests can compare the two.
    const bool ops_only;

    // ALORA_ROWS=alone or together: every adapted token's products are computed alone, or none's. Otherwise those of
    // tokens that an adapter was activated for after their conversation's first token: a LoRA's whole prompts are not.
    const bool rows_alone;
    const bool rows_together;
};

// Ends the plan of a ubatch on every way out of llama_context::process_ubatch.
struct alora_ubatch_scope {
    alora_context & alora;
    const bool ok;

    alora_ubatch_scope(alora_context & alora, const llama_ubatch & ubatch) : alora(alora), ok(alora.begin(ubatch)) {}
    ~alora_ubatch_scope() { alora.end(); }
};

//
// live contexts
//

alora_context * alora_context_find(const llama_context * ctx);   // nullptr if not live
alora_context * alora_context_of  (const llama_memory_i * mem);  // nullptr if no adapter was ever active there
void            alora_contexts_forget(const alora_adapter * adapter);
