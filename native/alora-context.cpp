#include "alora-context.h"

#include "llama-context.h"
#include "llama-impl.h"
#include "llama-memory.h"
#include "llama-model.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <map>
#include <mutex>

// Nodes for this many adapters on every weight are budgeted from the start; more are reserved when
// they are first active together.
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

static alora_context * find_by_memory(const llama_memory_i * mem) {
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

    n_nodes_budget = N_ADAPTERS_BUDGET * 12u * (uint32_t) ctx->get_model().n_tensors();

    std::lock_guard<std::mutex> lock(contexts_mutex);
    contexts[ctx] = this;
}

alora_context::~alora_context() {
    std::lock_guard<std::mutex> lock(contexts_mutex);
    contexts.erase(ctx);
}

void alora_context::activate(llama_seq_id seq_id, const alora_adapter_ptr & adapter, llama_pos start, float scale) {
    if (!resolved.count(adapter->id)) {
        resolved.emplace(adapter->id, adapter->resolve(weights));
        touch();
        std::lock_guard<std::mutex> lock(contexts_mutex);
        used.insert(adapter->id);
        memory = ctx->get_memory();
    }

    auto & acts = table[seq_id];
    const auto it = std::find_if(acts.begin(), acts.end(), [&](const activation & a) { return a.adapter == adapter; });
    if (it != acts.end()) {
        it->start = start;
        it->scale = scale;
        return;
    }
    acts.push_back({ adapter, start, scale });

    std::set<const alora_adapter *> distinct;
    uint32_t n_nodes = 0;
    for (const auto & [_, others] : table) {
        for (const auto & a : others) {
            if (distinct.insert(a.adapter.get()).second) {
                n_nodes += a.adapter->n_nodes();
            }
        }
    }
    if (n_nodes > n_nodes_budget) {
        n_nodes_budget = std::max(n_nodes, 2*n_nodes_budget);
        need_reserve   = true;
    }
}

int alora_context::deactivate(llama_seq_id seq_id, const alora_adapter * adapter) {
    const auto it = table.find(seq_id);
    if (it == table.end()) {
        return 0;
    }
    auto & acts = it->second;
    const size_t before = acts.size();
    acts.erase(std::remove_if(acts.begin(), acts.end(),
            [&](const activation & a) { return !adapter || a.adapter.get() == adapter; }), acts.end());
    const int res = (int) (before - acts.size());
    if (acts.empty()) {
        table.erase(it);
    }
    return res;
}

void alora_context::forget(const alora_adapter * adapter) {
    if (resolved.erase(adapter->id)) {
        ctx->synchronize(); // a device may still compute with its tensors
        touch();
    }
    for (const auto seq_id : active_seqs()) {
        deactivate(seq_id, adapter);
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
    const auto it = table.find(seq_id);
    return it == table.end() ? none : it->second;
}

std::vector<llama_seq_id> alora_context::active_seqs() const {
    std::vector<llama_seq_id> res;
    for (const auto & [seq_id, _] : table) {
        res.push_back(seq_id);
    }
    return res;
}

//
// cells
//

static llama_pos first_pos(llama_pos p0) { return p0 < 0 ? 0 : p0; }
static llama_pos end_pos  (llama_pos p1) { return p1 < 0 ? std::numeric_limits<llama_pos>::max() : p1; }

void alora_context::clear() {
    table.clear();
}

void alora_context::seq_end(llama_seq_id seq_id, llama_pos p0) {
    if (seq_id < 0) {
        for (const auto seq : active_seqs()) {
            seq_end(seq, p0);
        }
        return;
    }
    const auto it = table.find(seq_id);
    if (it == table.end()) {
        return;
    }
    auto & acts = it->second;
    acts.erase(std::remove_if(acts.begin(), acts.end(),
            [&](const activation & a) { return a.start >= p0; }), acts.end());
    if (acts.empty()) {
        table.erase(it);
    }
}

void alora_context::seq_cp(llama_seq_id src, llama_seq_id dst, llama_pos p0, llama_pos p1) {
    GGML_UNUSED(p0);
    if (src == dst) {
        return;
    }
    const auto acts = activations(src);
    table.erase(dst);
    for (const auto & a : acts) {
        if (a.start < end_pos(p1)) {
            table[dst].push_back(a);
        }
    }
}

void alora_context::seq_keep(llama_seq_id seq_id) {
    for (const auto other : active_seqs()) {
        if (other != seq_id) {
            table.erase(other);
        }
    }
}

void alora_context::seq_add(llama_seq_id seq_id, llama_pos p0, llama_pos p1, llama_pos delta) {
    for (const auto seq : active_seqs()) {
        if (seq_id < 0 || seq == seq_id) {
            for (auto & a : table[seq]) {
                if (a.start >= first_pos(p0) && a.start < end_pos(p1)) {
                    a.start = std::max(0, a.start + delta);
                } else if (a.start < first_pos(p0)) {
                    // its cells from p0 on move down, over the start that it had
                    a.start = std::min(a.start, std::max(0, first_pos(p0) + delta));
                }
            }
        }
    }
}

void alora_context::seq_div(llama_seq_id seq_id, llama_pos p0, llama_pos p1, int d) {
    for (const auto seq : active_seqs()) {
        if (seq_id < 0 || seq == seq_id) {
            for (auto & a : table[seq]) {
                if (d > 1 && a.start >= first_pos(p0) && a.start < end_pos(p1)) {
                    a.start /= d;
                }
            }
        }
    }
}

void alora_memory_clear(llama_memory_i * mem) {
    if (auto * alora = find_by_memory(mem)) {
        alora->clear();
    }
}

void alora_memory_seq_cp(llama_memory_i * mem, llama_seq_id src, llama_seq_id dst, llama_pos p0, llama_pos p1) {
    if (auto * alora = find_by_memory(mem)) {
        alora->seq_cp(src, dst, p0, p1);
    }
}

void alora_memory_seq_keep(llama_memory_i * mem, llama_seq_id seq_id) {
    if (auto * alora = find_by_memory(mem)) {
        alora->seq_keep(seq_id);
    }
}

void alora_memory_seq_add(llama_memory_i * mem, llama_seq_id seq_id, llama_pos p0, llama_pos p1, llama_pos delta) {
    if (auto * alora = find_by_memory(mem)) {
        alora->seq_add(seq_id, p0, p1, delta);
    }
}

void alora_memory_seq_div(llama_memory_i * mem, llama_seq_id seq_id, llama_pos p0, llama_pos p1, int d) {
    if (auto * alora = find_by_memory(mem)) {
        alora->seq_div(seq_id, p0, p1, d);
    }
}

alora_memory_seq_rm::alora_memory_seq_rm(llama_memory_i * mem, llama_seq_id seq_id, llama_pos p0, llama_pos p1)
    : alora(find_by_memory(mem)), mem(mem), p0(first_pos(p0)), p1(end_pos(p1)) {
    if (!alora) {
        return;
    }
    for (const auto seq : alora->active_seqs()) {
        if ((seq_id < 0 || seq == seq_id) && mem->seq_pos_max(seq) < this->p1) {
            seqs.push_back(seq);
        }
    }
}

alora_memory_seq_rm::~alora_memory_seq_rm() {
    for (const auto seq : seqs) {
        if (mem->seq_pos_max(seq) < p0) {
            alora->seq_end(seq, p0);
        }
    }
}

//
// graphs
//

bool alora_context::begin(const llama_ubatch & ubatch) {
    current = nullptr;
    if (table.empty()) {
        return true;
    }

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
                LLAMA_LOG_ERROR("%s: token %u at position %d: expected the same adapters for all its sequences, "
                        "got others for sequence %d than for %d; decode it once a sequence\n", __func__, i, pos,
                        ubatch.seq_id[i][s], ubatch.seq_id[i][0]);
                return false;
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

    if (!slots.empty()) {
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
        current = plan;
    }
    return true;
}

void alora_context::end() {
    current = reserve_plan;
}

bool alora_context::take_need_reserve() {
    const bool res = need_reserve;
    need_reserve = false;
    return res;
}
