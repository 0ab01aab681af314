#include "alora-cells.h"

#include "llama-kv-cache-dsa-iswa.h"
#include "llama-kv-cache-dsa.h"
#include "llama-kv-cache-dsv4.h"
#include "llama-kv-cache-iswa.h"
#include "llama-kv-cache-msa.h"
#include "llama-kv-cache.h"
#include "llama-memory-hybrid-iswa.h"
#include "llama-memory-hybrid.h"
#include "llama-memory-recurrent.h"

#include <algorithm>
#include <limits>

static constexpr llama_pos POS_MAX = std::numeric_limits<llama_pos>::max();

llama_pos alora_shift::to(llama_pos pos) const {
    return (llama_pos) std::min<int64_t>(POS_MAX, ((int64_t) pos + delta)/d);
}

// The cells of attention that no window has cut, of every memory that llama_model::create_memory makes.
static const llama_kv_cache * find_attention(const llama_memory_i * mem) {
    if (const auto * kv = dynamic_cast<const llama_kv_cache *>(mem)) {
        return kv;
    }
    if (const auto * iswa = dynamic_cast<const llama_kv_cache_iswa *>(mem)) {
        return iswa->get_base();
    }
    if (const auto * dsa = dynamic_cast<const llama_kv_cache_dsa *>(mem)) {
        return dsa->get_mla();
    }
    if (const auto * dsa_iswa = dynamic_cast<const llama_kv_cache_dsa_iswa *>(mem)) {
        return find_attention(dsa_iswa->get_dsa());
    }
    if (const auto * msa = dynamic_cast<const llama_kv_cache_msa *>(mem)) {
        return msa->get_base();
    }
    if (const auto * dsv4 = dynamic_cast<const llama_kv_cache_dsv4 *>(mem)) {
        return find_attention(dsv4->get_raw());
    }
    if (const auto * hybrid = dynamic_cast<const llama_memory_hybrid *>(mem)) {
        return hybrid->get_mem_attn();
    }
    if (const auto * hybrid_iswa = dynamic_cast<const llama_memory_hybrid_iswa *>(mem)) {
        return find_attention(hybrid_iswa->get_mem_attn());
    }
    return nullptr;
}

static const llama_memory_recurrent * find_recurrent(const llama_memory_i * mem) {
    if (const auto * hybrid = dynamic_cast<const llama_memory_hybrid *>(mem)) {
        return hybrid->get_mem_recr();
    }
    if (const auto * hybrid_iswa = dynamic_cast<const llama_memory_hybrid_iswa *>(mem)) {
        return hybrid_iswa->get_mem_recr();
    }
    return dynamic_cast<const llama_memory_recurrent *>(mem);
}

alora_cells::alora_cells(const llama_memory_i * mem) : mem(mem), attention(find_attention(mem)), recurrent(find_recurrent(mem)) {
}

const llama_kv_cells * alora_cells::cells_of(llama_seq_id seq_id) const {
    return attention ? &attention->get_cells(seq_id) : nullptr;
}

llama_pos alora_cells::last(llama_seq_id seq_id) const {
    const auto * cells = cells_of(seq_id);
    return cells ? cells->seq_pos_max(seq_id) : mem->seq_pos_max(seq_id);
}

bool alora_cells::any(llama_seq_id seq_id, llama_pos p0, llama_pos p1) const {
    const auto * cells = cells_of(seq_id);
    if (!cells) {
        return p0 < p1 && p0 <= last(seq_id);
    }
    const auto & by_pos = cells->seq_pos_get(seq_id);
    const auto it = by_pos.lower_bound({ p0, 0 });
    return it != by_pos.end() && it->first < p1;
}

bool alora_cells::copy_replaces(llama_seq_id src, llama_seq_id dst) const {
    return recurrent || cells_of(src) != cells_of(dst);
}

llama_pos alora_cells::start_after(llama_seq_id seq_id, llama_pos start, const alora_shift & shift) const {
    const auto * cells = cells_of(seq_id);
    if (!cells) {
        const llama_pos last = this->last(seq_id);
        const bool moves = shift.takes(last) && recurrent && (seq_id == shift.seq_id ||
                ((size_t) shift.seq_id < recurrent->cells.size() && recurrent->cells[shift.seq_id].tail >= 0 &&
                 recurrent->cells[recurrent->cells[shift.seq_id].tail].has_seq_id(seq_id)));
        if (!moves) {
            return start;
        }
        if (shift.to(last) < 0) {
            return -1;
        }
        const llama_pos to = start < shift.p0 ? std::min(start, shift.to(shift.p0)) : shift.to(start);
        return std::max({ 0, to, start > last ? shift.to(last) + 1 : 0 });
    }

    const bool shared = cells == cells_of(shift.seq_id);
    bool      any_from = false;
    llama_pos beside   = -1;      // where the first one from it on is, else the last one before it
    bool      moves    = false;   // all that are there
    llama_pos before   = -1;      // the last one of those before it, when all have moved
    llama_pos from     = POS_MAX; // the first one of those from it on
    for (const auto & [pos, i] : cells->seq_pos_get(seq_id)) {
        const bool taken = shared && shift.takes(pos) && cells->seq_has(i, shift.seq_id);
        const llama_pos to = taken ? shift.to(pos) : pos;
        if (!any_from || pos == beside) {
            moves  = taken && (moves || pos != beside);
            beside = pos;
        }
        any_from = any_from || pos >= start;
        if (to < 0) {
            continue;
        }
        if (pos < start) {
            before = std::max(before, to);
        } else {
            from = std::min(from, to);
        }
    }
    if (beside >= 0 && (any_from ? from == POS_MAX : before < 0)) {
        return -1;
    }
    llama_pos res = moves ? shift.to(start) : start;
    res = std::max(res, before + 1);
    return any_from ? std::min(res, from) : res;
}
