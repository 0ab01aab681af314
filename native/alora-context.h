#pragma once

// What is active on the sequences of one llama_context, and what that means for a ubatch.

#include "alora-adapter.h"

#include <cstdint>
#include <memory>
#include <set>
#include <unordered_map>
#include <vector>

struct llama_context;
struct llama_memory_i;
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
    std::vector<llama_seq_id>       active_seqs() const;

    //
    // what happens to the cells happens to the activations
    //

    void clear();
    void seq_end (llama_seq_id seq_id, llama_pos p0); // its cells (-1: all sequences' cells) from p0 on are gone
    void seq_cp  (llama_seq_id src, llama_seq_id dst, llama_pos p0, llama_pos p1);
    void seq_keep(llama_seq_id seq_id);
    void seq_add (llama_seq_id seq_id, llama_pos p0, llama_pos p1, llama_pos delta);
    void seq_div (llama_seq_id seq_id, llama_pos p0, llama_pos p1, int d);

    //
    // graphs
    //

    // Between begin and end, plan() is that of the ubatch; else that of a reserve.
    // False, with the reason in the log, if two sequences of one token disagree.
    bool begin(const llama_ubatch & ubatch);
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

    // no entry is empty
    std::unordered_map<llama_seq_id, std::vector<activation>> table;

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
// hooks of llama_memory_*, which know the memory but not its context
//

void alora_memory_clear   (llama_memory_i * mem);
void alora_memory_seq_cp  (llama_memory_i * mem, llama_seq_id src, llama_seq_id dst, llama_pos p0, llama_pos p1);
void alora_memory_seq_keep(llama_memory_i * mem, llama_seq_id seq_id);
void alora_memory_seq_add (llama_memory_i * mem, llama_seq_id seq_id, llama_pos p0, llama_pos p1, llama_pos delta);
void alora_memory_seq_div (llama_memory_i * mem, llama_seq_id seq_id, llama_pos p0, llama_pos p1, int d);

// A removal can fail (recurrent memories cannot be cut), and what it has removed shows only
// afterwards: applied when the scope ends.
struct alora_memory_seq_rm {
    alora_memory_seq_rm(llama_memory_i * mem, llama_seq_id seq_id, llama_pos p0, llama_pos p1);
    ~alora_memory_seq_rm();

private:
    alora_context * alora = nullptr;
    llama_memory_i * mem;
    llama_pos p0;
    llama_pos p1;
    std::vector<llama_seq_id> seqs; // those whose last cell lies in [p0, p1)
};

//
// live contexts
//

alora_context * alora_context_find(const llama_context * ctx); // nullptr if not live
void            alora_contexts_forget(const alora_adapter * adapter);
