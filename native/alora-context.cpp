#include "alora-context.h"

#include "llama-context.h"
#include "llama-impl.h"
#include "llama-memory.h"
#include "llama-model.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <map>
#include <mutex>

// Nodes for this many adapters on every weight are budgeted with the first activation; more are reserved
// when they are first active together.
static constexpr uint32_t N_ADAPTERS_BUDGET = 4;

//
// live contexts
//

static std::mutex contexts_mutex;
static std::map<const llama_context *, alora_context *> contexts;

alora_context * alora_context_find(const llama_context * ctx) {
    std::lock_guard<std::mutex> lock(contexts_mutex);
    const auto it = contexts.find(ctx);
    return it == contexts.end() ? nullptr : it->second;
}

void alora_contexts_forget(const alora_adapter * adapter) {
    std::lock_guard<std::mutex> lock(contexts_mutex);
    for (const auto & [_, alora] : contexts) {
        if (alora->used.erase(adapter->id)) { // the others may be decoding
            alora->forget(adapter);
        }
    }
}

alora_context * alora_context_of(const llama_memory_i * mem) {
    std::lock_guard<std::mutex> lock(contexts_mutex);
    for (const auto & [_, alora] : contexts) {
        if (alora->memory == mem) {
            return alora;
        }
    }
    return nullptr;
}

//
// alora_plan
//

bool alora_plan::same_topology(const alora_plan * lhs, const alora_plan * rhs) {
    if (!lhs || !rhs) {
        return lhs == rhs;
    }
    return lhs->seen == rhs->seen && lhs->touched == rhs->touched;
}

bool alora_plan::same_slots(const alora_plan & lhs, const alora_plan & rhs) {
    return std::equal(
            lhs.slots.begin(), lhs.slots.end(), rhs.slots.begin(), rhs.slots.end(),
            [](const alora_slot & l, const alora_slot & r) { return l.id == r.id; });
}

//
// alora_context
//

static bool env_is(const char * name, const char * value) {
    const char * got = getenv(name);
    return got && strcmp(got, value) == 0;
}

alora_context::alora_context(llama_context * ctx) : ctx(ctx), ops_only(env_is("ALORA_GRAPH", "ops")),
      rows_alone(env_is("ALORA_ROWS", "alone")), rows_together(env_is("ALORA_ROWS", "together")) {
    auto plan = std::make_shared<alora_plan>();
    plan->seen = &weights;
    plan->weights = &weights;
    reserve_plan = current = plan;

    std::lock_guard<std::mutex> lock(contexts_mutex);
    contexts[ctx] = this;
}

alora_context::~alora_context() {
    std::lock_guard<std::mutex> lock(contexts_mutex);
    contexts.erase(ctx);
}

void alora_context::activate(llama_seq_id seq_id, const alora_adapter_ptr & adapter, llama_pos start, float scale) {
    if (table.empty()) {
        table.resize(ctx->n_seq_max()); // which it does not know yet when this is made with it
    }
    if (!resolved.count(adapter->id)) {
        resolved.emplace(adapter->id, adapter->resolve(weights));
        try {
            touch();
            std::lock_guard<std::mutex> lock(contexts_mutex);
            used.insert(adapter->id);
            memory = ctx->get_memory();
        } catch (...) {
            resolved.erase(adapter->id);
            throw;
        }
    }

    auto & acts = table[seq_id].acts;
    const auto it = std::find_if(acts.begin(), acts.end(), [&](const activation & a) { return a.adapter == adapter; });
    if (it != acts.end()) {
        it->start = start;
        it->scale = scale;
        return;
    }

    std::set<const alora_adapter *> distinct { adapter.get() };
    uint32_t n_nodes = adapter->n_nodes();
    for (const auto & seq : table) {
        for (const auto & a : seq.acts) {
            if (distinct.insert(a.adapter.get()).second) {
                n_nodes += a.adapter->n_nodes();
            }
        }
    }
    acts.push_back({ adapter, start, scale });
    if (n_nodes > n_nodes_budget) {
        // a context of the base alone pays for none
        const uint32_t more = n_nodes_budget ? 2*n_nodes_budget : N_ADAPTERS_BUDGET * 12u * (uint32_t) ctx->get_model().n_tensors();
        n_nodes_budget = std::max(n_nodes, more);
        need_reserve   = true;
    }
}

int alora_context::deactivate(llama_seq_id seq_id, const alora_adapter * adapter) {
    if (!is_seq(seq_id)) {
        return 0;
    }
    auto & acts = table[seq_id].acts;
    const size_t before = acts.size();
    acts.erase(std::remove_if(acts.begin(), acts.end(),
            [&](const activation & a) { return !adapter || a.adapter.get() == adapter; }), acts.end());
    return (int) (before - acts.size());
}

void alora_context::forget(const alora_adapter * adapter) {
    if (resolved.erase(adapter->id)) {
        ctx->synchronize(); // a device may still compute with its tensors
        touch();
    }
    for (size_t seq_id = 0; seq_id < table.size(); ++seq_id) {
        deactivate((llama_seq_id) seq_id, adapter);
    }
}

void alora_context::touch() {
    std::vector<bool> res(weights.size(), false);
    for (const auto & [_, pairs] : resolved) {
        for (size_t i = 0; i < pairs.size(); ++i) {
            res[i] = res[i] || pairs[i];
        }
    }
    // an equal one stays, and with it the graph
    if (!touched || *touched != res) {
        touched = std::make_shared<const std::vector<bool>>(std::move(res));
    }
}

const std::vector<alora_context::activation> & alora_context::activations(llama_seq_id seq_id) const {
    static const std::vector<activation> none;
    return is_seq(seq_id) ? table[seq_id].acts : none;
}

//
// cells
//

void alora_context::clear() {
    clear(-1);
}

void alora_context::clear(llama_seq_id seq_id) {
    for (size_t i = 0; i < table.size(); ++i) {
        if (seq_id < 0 || seq_id == (llama_seq_id) i) {
            table[i].acts.clear();
        }
    }
}

void alora_context::note_last() {
    const alora_cells cells(ctx->get_memory());
    for (size_t i = 0; i < table.size(); ++i) {
        if (!table[i].acts.empty()) {
            table[i].last = cells.last((llama_seq_id) i);
        }
    }
}

void alora_context::end_lost() {
    const alora_cells cells(ctx->get_memory());
    for (size_t i = 0; i < table.size(); ++i) {
        auto & [acts, before] = table[i];
        if (acts.empty() || before < 0) {
            continue;
        }
        const llama_pos last = cells.last((llama_seq_id) i);
        acts.erase(std::remove_if(acts.begin(), acts.end(), [&, before = before](const activation & a) {
            return last < 0 || (a.start <= before && a.start > last);
        }), acts.end());
    }
}

void alora_context::end_empty(llama_seq_id seq_id) {
    const alora_cells cells(ctx->get_memory());
    for (size_t i = 0; i < table.size(); ++i) {
        if ((seq_id < 0 || seq_id == (llama_seq_id) i) && cells.last((llama_seq_id) i) >= 0) {
            return;
        }
    }
    clear(seq_id);
}

std::vector<alora_context::activation> alora_context::copied(llama_seq_id src, llama_seq_id dst, llama_pos p0, llama_pos p1, bool whole) const {
    const alora_cells cells(ctx->get_memory());
    if (cells.copy_replaces(src, dst)) {
        return activations(src);
    }
    // the destination's own: with its cells, which stay, and without any, if it gets but a part
    auto res = cells.last(dst) < 0 && whole ? std::vector<activation>() : activations(dst);
    for (auto a : activations(src)) {
        const bool has = std::any_of(res.begin(), res.end(), [&](const activation & own) { return own.adapter == a.adapter; });
        const bool to_come = a.start > cells.last(src) && a.start >= p0 && a.start < p1;
        a.start = std::max(a.start, p0);
        if (!has && (to_come || cells.any(src, a.start, p1))) {
            res.push_back(a);
        }
    }
    return res;
}

void alora_context::shift(const alora_shift & shift) {
    const alora_cells cells(ctx->get_memory());
    for (size_t i = 0; i < table.size(); ++i) {
        auto & acts = table[i].acts;
        for (auto & a : acts) {
            a.start = cells.start_after((llama_seq_id) i, a.start, shift);
        }
        acts.erase(std::remove_if(acts.begin(), acts.end(), [](const activation & a) { return a.start < 0; }), acts.end());
    }
}

void alora_context::replace(llama_seq_id seq_id, std::vector<activation> && acts) {
    table[seq_id].acts = std::move(acts);
}

void alora_context::seq_keep(llama_seq_id seq_id) {
    // streams of other sequences stay, but where there is a recurrent state it went for all
    for (size_t i = 0; i < table.size(); ++i) {
        if (seq_id != (llama_seq_id) i && !table[i].acts.empty() && ctx->get_memory()->seq_pos_max((llama_seq_id) i) < 0) {
            table[i].acts.clear();
        }
    }
}

//
// graphs
//

bool alora_context::begin(const llama_ubatch & ubatch) noexcept {
    current = nullptr;
    if (std::all_of(table.begin(), table.end(), [](const sequence & seq) { return seq.acts.empty(); })) {
        return true;
    }
    try {
        current = plan_of(ubatch);
        return true;
    } catch (const std::exception & e) {
        LLAMA_LOG_ERROR("%s: %s\n", __func__, e.what());
        return false;
    }
}

alora_plan_ptr alora_context::plan_of(const llama_ubatch & ubatch) const {
    // by id, so that the order of the slots, and with it the graph, depends on nothing else
    std::map<uint64_t, alora_slot> slots;
    std::vector<uint8_t> is_active(ubatch.n_tokens), is_alone(ubatch.n_tokens);

    for (uint32_t i = 0; i < ubatch.n_tokens; ++i) {
        const llama_pos pos = ubatch.pos[i];

        const auto active = [&](llama_seq_id seq_id) {
            std::map<const alora_adapter *, float> res;
            for (const auto & a : activations(seq_id)) {
                if (pos >= a.start && a.scale != 0.0f) {
                    res[a.adapter.get()] = a.scale;
                }
            }
            return res;
        };

        const auto acts = active(ubatch.seq_id[i][0]);
        for (int s = 1; s < ubatch.n_seq_id[i]; ++s) {
            if (active(ubatch.seq_id[i][s]) != acts) {
                throw alora_error(ALORA_ERROR_ARGUMENT, "token " + std::to_string(i) + " at position " + std::to_string(pos) +
                        ": expected the same adapters for all its sequences, got others for sequence " + std::to_string(ubatch.seq_id[i][s]) +
                        " than for " + std::to_string(ubatch.seq_id[i][0]) + "; decode it once a sequence");
            }
        }
        is_active[i] = !acts.empty();
        for (const auto & a : activations(ubatch.seq_id[i][0])) {
            is_alone[i] |= acts.count(a.adapter.get()) && !rows_together && (rows_alone || a.start > 0);
        }
        for (const auto & [adapter, scale] : acts) {
            auto & slot = slots[adapter->id];
            if (slot.scale.empty()) {
                slot.id      = adapter->id;
                slot.adapter = adapter;
                slot.pairs   = &resolved.at(adapter->id);
                slot.scale.resize(ubatch.n_tokens, 0.0f);
            }
            slot.scale[i] = scale;
        }
    }

    if (slots.empty()) {
        return nullptr;
    }
    auto plan = std::make_shared<alora_plan>();
    plan->weights    = &weights;
    plan->memory     = memory;
    plan->ops_only   = ops_only;
    plan->all_active = std::count(is_active.begin(), is_active.end(), 1) == ubatch.n_tokens;
    plan->active     = std::move(is_active);
    plan->alone      = std::move(is_alone);
    plan->touched    = touched;
    for (auto & [_, slot] : slots) {
        plan->slots.push_back(std::move(slot));
    }
    return plan;
}

void alora_context::end() {
    current = reserve_plan;
}

bool alora_context::take_need_reserve() {
    const bool res = need_reserve;
    need_reserve = false;
    return res;
}
