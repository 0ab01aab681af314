#include "alora-attention.h"

#include "llama-batch.h"
#include "llama-kv-cache-iswa.h"
#include "llama-kv-cache.h"
#include "llama-memory-hybrid-iswa.h"
#include "llama-memory-hybrid.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

static constexpr int64_t N_LANES  = 48;      // queries at once: they fill three of the widest vectors
static constexpr size_t  N_PARTS  = 1 << 19; // floats a thread, at most

static const char * at(const ggml_tensor * t, int64_t i1, int64_t i2, int64_t i3) {
    return (const char *) t->data + i1*t->nb[1] + i2*t->nb[2] + i3*t->nb[3];
}

static constexpr uint16_t MASKED = 0xfc00; // -inf

static float param(const ggml_tensor * flash, int i) {
    float res;
    memcpy(&res, (const float *) flash->op_params + i, sizeof(res));
    return res;
}

// Of one mask: nodes of several layers have the same.
struct alora_attention::view {
    const ggml_tensor * mask;
    const ggml_tensor * cache; // that has the keys of one of the layers
    int64_t             n_together;
    alora_sight         sight;
};

struct alora_attention::node {
    alora_attention * attention;
    float             scale;
    float             cap; // of the scores, 0: none
    bool              mixed;
    const view *      seen;
    std::vector<float> slopes; // of ALiBi: a head's times what the mask has; empty: the mask has 0 alone

    // shapes
    int64_t dk, dv, n_head, n_head_kv, n_tokens; // of a stream

    bool                 share = false; // threads take segments: for few tokens, whose cells are read in the order in which they lie
    std::atomic<int32_t> next { 0 };        // unit of work

    node(alora_attention * attention, const ggml_tensor * flash, bool mixed, const view * seen)
        : attention(attention), scale(param(flash, 0)), cap(param(flash, 2)), mixed(mixed), seen(seen),
          dk(flash->src[1]->ne[0]), dv(flash->src[2]->ne[0]), n_head(flash->src[0]->ne[2]), n_head_kv(flash->src[1]->ne[2]), n_tokens(flash->src[0]->ne[1]) {
        scale = cap != 0.0f ? scale/cap : scale;
        const float bias = param(flash, 1);
        const int64_t n_pow2 = (int64_t) 1 << (int) std::floor(std::log2(n_head)); // as in ggml
        for (int64_t h = 0; bias > 0.0f && h < n_head; ++h) {
            slopes.push_back(h < n_pow2 ? std::pow(2.0f, -bias/n_pow2*(h + 1)) : std::pow(2.0f, -bias/2/n_pow2*(2*(h - n_pow2) + 1)));
        }
    }

    int64_t n_shared() const { return n_head/n_head_kv; }                   // heads that share a cell
    int64_t n_slices() const { return (n_shared() + N_LANES - 1)/N_LANES; } // of these, as many at once as there are lanes
    int64_t n_part()   const { return 2 + dv; }                             // max, sum, acc
};

alora_attention::alora_attention() = default;
alora_attention::~alora_attention() = default;

bool alora_attention::takes(const ggml_tensor * flash) const {
    const auto * q = flash->src[0], * k = flash->src[1], * v = flash->src[2], * mask = flash->src[3], * sinks = flash->src[4];
    const bool has_type = k->type == GGML_TYPE_F32 || k->type == GGML_TYPE_F16 || k->type == GGML_TYPE_BF16 || k->type == GGML_TYPE_Q8_0;
    return kernel && has_type && v->type == k->type && q->type == GGML_TYPE_F32 &&
        mask && mask->type == GGML_TYPE_F16 && mask->op == GGML_OP_NONE && mask->ne[1] == q->ne[1] && mask->ne[2] == 1 &&
        mask->ne[3] == q->ne[3] && k->ne[3] == q->ne[3] && v->ne[3] == q->ne[3] && (!sinks || sinks->type == GGML_TYPE_F32) &&
        k->ne[2] == v->ne[2] && q->ne[2] % k->ne[2] == 0 &&
        k->ne[0] % 8 == 0 && v->ne[0] % 8 == 0 && k->nb[0] == ggml_type_size(k->type) && v->nb[0] == ggml_type_size(v->type);
}

ggml_tensor * alora_attention::build(ggml_context * ctx0, ggml_tensor * flash, bool mixed, const std::function<void(ggml_tensor *)> & place) {
    auto * mask = flash->src[3];
    const int64_t n_shared = flash->src[0]->ne[2]/flash->src[1]->ne[2];
    const int64_t n_together = std::max<int64_t>(1, N_LANES/n_shared);
    const auto & seen = views.try_emplace({ mask, n_together }, view { mask, flash->src[1]->view_src, n_together, {} }).first->second;
    nodes.emplace_back(this, flash, mixed, &seen);

    std::vector<ggml_tensor *> args(flash->src, flash->src + 4);
    args.push_back(flash->src[4] ? flash->src[4] : mask);
    if (mixed) {
        auto *& of_base = masks[mask];
        if (!of_base) {
            of_base = ggml_custom_4d(ctx0, mask->type, mask->ne[0], mask->ne[1], 1, mask->ne[3], &mask, 1, mask_of_base, GGML_N_TASKS_MAX, this);
            place(of_base);
        }
        flash->src[3] = of_base;
        args.push_back(flash);
    }
    auto * res = ggml_custom_4d(ctx0, GGML_TYPE_F32, flash->ne[0], flash->ne[1], flash->ne[2], flash->ne[3],
        args.data(), (int) args.size(), compute, GGML_N_TASKS_MAX, &nodes.back());
    place(res);
    return res;
}

void alora_attention::mask_of_base(ggml_tensor * dst, int ith, int nth, void * userdata) {
    const auto & active = ((const alora_attention *) userdata)->active;
    for (int64_t i = ith; i < dst->ne[1]*dst->ne[3]; i += nth) {
        auto * to = (uint16_t *) at(dst, i % dst->ne[1], 0, i/dst->ne[1]);
        if (active[i]) {
            std::fill(to, to + dst->ne[0], MASKED);
        } else {
            memcpy(to, at(dst->src[0], i % dst->ne[1], 0, i/dst->ne[1]), dst->ne[0]*sizeof(*to));
        }
    }
}

//
// before the threads
//

// The cache that has this tensor, nullptr if it is of a kind that is not known here.
static const llama_kv_cache * find_cache(const llama_memory_i * memory, const ggml_tensor * keys) {
    const auto has = [&](const llama_kv_cache * kv) {
        const auto ids = kv->get_layer_ids();
        return std::any_of(ids.begin(), ids.end(), [&](uint32_t il) { return kv->get_k_storage(il) == keys; });
    };
    const auto * iswa = dynamic_cast<const llama_kv_cache_iswa *>(memory);
    const auto * kv   = dynamic_cast<const llama_kv_cache *>(memory);
    if (const auto * hybrid = dynamic_cast<const llama_memory_hybrid_iswa *>(memory)) {
        iswa = hybrid->get_mem_attn();
    }
    if (const auto * hybrid = dynamic_cast<const llama_memory_hybrid *>(memory)) {
        kv = hybrid->get_mem_attn();
    }
    const llama_kv_cache * const caches[] = { kv, iswa ? iswa->get_base() : nullptr, iswa ? iswa->get_swa() : nullptr };
    for (const auto * res : caches) {
        if (res && has(res)) {
            return res;
        }
    }
    return nullptr;
}

void alora_attention::look(view & view, const llama_ubatch & ubatch, const llama_memory_i * memory) {
    const auto * mask = view.mask;
    const auto * kv   = find_cache(memory, view.cache);
    std::vector<alora_sight::token> tokens;
    std::vector<int32_t>            pos(mask->ne[0]);
    view.sight.clear();
    for (int64_t stream = 0; stream < mask->ne[3]; ++stream) {
        tokens.clear();
        for (int64_t i = 0; i < mask->ne[1]; ++i) {
            const int64_t index = stream*mask->ne[1] + i;
            if (active[index]) {
                tokens.push_back({ (int32_t) index, ubatch.pos[index], (const uint16_t *) at(mask, i, 0, stream) });
            }
        }
        if (tokens.empty()) {
            continue;
        }
        if (kv) {
            const auto & cells = kv->get_cells(ubatch.seq_id[tokens[0].index][0]);
            for (int64_t i = 0; i < mask->ne[0]; ++i) {
                pos[i] = cells.is_empty(i) ? -1 : cells.pos_get(i);
            }
        } else {
            std::iota(pos.begin(), pos.end(), 0);
        }
        view.sight.add((int32_t) stream, tokens, pos, view.n_together);
    }
}

//
// a thread
//

// Computes units of work, as many as it comes to: a team's queries of the heads that share a cell of the cache,
// by all of the team's segments, or by one of them where there are few teams. Queries are lanes of the kernel
// while they see the same cells; between, what they have summed up lies in `now`.
struct alora_attention::worker {
    const node & self;
    const ggml_tensor * dst;
    const alora_sight & sight = self.seen->sight;
    const int64_t n_part = self.n_part();

    // the scratch
    float * lane_q, * lane_mask, * lane_max, * lane_sum, * lane_acc, * lane_scratch;
    float * now_scratch, * whole; // [n_part, N_LANES]

    // the unit
    const alora_sight::team * team = nullptr;
    int64_t   head_kv = 0, head = 0; // the first one of the slice
    int64_t   n_heads = 0;           // of the slice
    float   * now     = nullptr;     // [n_part, n_heads, team's tokens]: of the segment

    // the lanes: members of the team
    int32_t  members[alora_sight::N_BLOCK];
    int64_t  n_members = 0;
    int64_t  n_lanes   = 0;
    bool     few       = false;

    template <typename F> static size_t layout(const node & node, F && put) {
        size_t n = 0;
        const auto lines = [&](int i, int64_t n_floats) {
            put(i, n);
            n += (n_floats + 15)/16;
        };
        lines(0, N_LANES*node.dk);
        lines(1, N_LANES*ALORA_N_CELLS);
        lines(2, N_LANES);
        lines(3, N_LANES);
        lines(4, N_LANES*node.dv);
        lines(5, alora_attention_scratch(node.dk, node.dv, N_LANES));
        lines(6, N_LANES*node.n_part());
        lines(7, N_LANES*node.n_part());
        return n;
    }

    static size_t n_lines(const node & node) { return layout(node, [](int, size_t) {}); }

    worker(const node & self, const ggml_tensor * dst, line * scratch) : self(self), dst(dst) {
        float ** const pointers[] = { &lane_q, &lane_mask, &lane_max, &lane_sum, &lane_acc, &lane_scratch, &now_scratch, &whole };
        layout(self, [&](int i, size_t n) { *pointers[i] = scratch[n].values; });
    }

    // f(lane, member of the team, head among the slice's)
    template <typename F> void for_each_lane(F && f) const {
        int64_t lane = 0;
        for (int64_t i = 0; i < n_members; ++i) {
            for (int64_t h = 0; h < n_heads; ++h) {
                f(lane++, members[i], h);
            }
        }
    }

    float * part(float * parts, int64_t member, int64_t h) const { return parts + (member*n_heads + h)*n_part; }

    // value d of a lane, where all lanes have n
    int64_t lane_at(int64_t lane, int64_t d, int64_t n) const { return few ? lane*n + d : d*n_lanes + lane; }

    void forget(float * parts) const {
        for (int64_t i = 0; i < team->n_tokens*n_heads; ++i) {
            parts[i*n_part]     = ALORA_SCORE_MIN;
            parts[i*n_part + 1] = 0.0f;
        }
    }

    bool are_lanes(const alora_sight::call & call) const {
        const auto * seers = &sight.seers[call.seers];
        return n_members == call.n_seers && std::equal(members, members + n_members, seers, [](int32_t m, const alora_sight::seer & s) { return m == s.member; });
    }

    void set_lanes(const alora_sight::call & call) {
        n_members = call.n_seers;
        std::transform(&sight.seers[call.seers], &sight.seers[call.seers] + n_members, members, [](const alora_sight::seer & s) { return s.member; });
        n_lanes = alora_attention_lanes(n_members*n_heads);
        few     = n_lanes <= ALORA_N_FEW;
        if (n_lanes != n_members*n_heads) {
            std::fill(lane_q, lane_q + n_lanes*self.dk, 0.0f);
        }
        for_each_lane([&](int64_t lane, int64_t member, int64_t h) {
            const int64_t token = sight.tokens[team->tokens + member];
            const auto * from = (const float *) at(dst->src[0], token % self.n_tokens, head + h, token/self.n_tokens);
            for (int64_t d = 0; d < self.dk; ++d) {
                lane_q[lane_at(lane, d, self.dk)] = self.scale*from[d];
            }
        });
    }

    void clear_lanes() {
        std::fill(lane_max, lane_max + n_lanes, ALORA_SCORE_MIN);
        std::fill(lane_sum, lane_sum + n_lanes, 0.0f);
        std::fill(lane_acc, lane_acc + n_lanes*self.dv, 0.0f);
    }

    void load_lanes() {
        clear_lanes();
        for_each_lane([&](int64_t lane, int64_t member, int64_t h) {
            const float * from = part(now, member, h);
            lane_max[lane] = from[0];
            lane_sum[lane] = from[1];
            for (int64_t d = 0; from[1] != 0.0f && d < self.dv; ++d) {
                lane_acc[lane_at(lane, d, self.dv)] = from[2 + d];
            }
        });
    }

    void store_lanes() {
        for_each_lane([&](int64_t lane, int64_t member, int64_t h) {
            float * to = part(now, member, h);
            to[0] = lane_max[lane];
            to[1] = lane_sum[lane];
            for (int64_t d = 0; d < self.dv; ++d) {
                to[2 + d] = lane_acc[lane_at(lane, d, self.dv)];
            }
        });
    }

    void set_mask(const alora_sight::call & call) {
        std::fill(lane_mask, lane_mask + n_lanes*(few ? ALORA_N_CELLS : call.n_cells), 0.0f);
        for_each_lane([&](int64_t lane, int64_t member, int64_t h) {
            const uint64_t seen  = sight.seers[call.seers + lane/n_heads].cells;
            const int64_t  token = sight.tokens[team->tokens + member];
            const auto   * bias  = self.slopes.empty() ? nullptr : (const ggml_fp16_t *) at(dst->src[3], token % self.n_tokens, 0, token/self.n_tokens);
            for (int64_t i = 0; i < call.n_cells; ++i) {
                const float of_seen = bias ? self.slopes[head + h]*ggml_fp16_to_fp32(bias[sight.cells[call.cells + i]]) : 0.0f;
                lane_mask[lane_at(lane, i, ALORA_N_CELLS)] = seen >> i & 1 ? of_seen : ALORA_SCORE_MASKED;
            }
        });
    }

    // the segment's sums, in `now`
    void run(const alora_sight::segment & segment) {
        const auto * k = dst->src[1], * v = dst->src[2];
        forget(now);
        bool loaded = false; // the lanes have what `now` has of them
        for (int32_t i = 0; i < segment.n_calls; ++i) {
            const auto & call = sight.calls[segment.calls + i];
            if (!loaded || !are_lanes(call)) {
                if (loaded) {
                    store_lanes();
                }
                if (!are_lanes(call)) {
                    set_lanes(call);
                }
                load_lanes();
                loaded = true;
            }
            const bool has_mask = !call.whole || !self.slopes.empty();
            if (has_mask) {
                set_mask(call);
            }
            self.attention->kernel({ k->type, at(k, 0, head_kv, team->stream), at(v, 0, head_kv, team->stream), k->nb[1], v->nb[1], self.dk, self.dv,
                &sight.cells[call.cells], call.n_cells, lane_q, has_mask ? lane_mask : nullptr, n_lanes, lane_max, lane_sum, lane_acc, lane_scratch, self.cap });
        }
        store_lanes();
    }

    // The sums of one more segment to those of the segments before, in order.
    void add(float * to, const float * from) const {
        if (from[1] == 0.0f) {
            return;
        }
        const float max  = std::max(to[0], from[0]);
        const float was  = to[1] == 0.0f ? 0.0f : std::exp(to[0] - max);
        const float adds = std::exp(from[0] - max);
        for (int64_t d = 0; d < self.dv; ++d) {
            to[2 + d] = to[1] == 0.0f ? from[2 + d]*adds : to[2 + d]*was + from[2 + d]*adds;
        }
        to[0] = max;
        to[1] = to[1]*was + from[1]*adds;
    }

    void add_all(const float * from) {
        for (int64_t i = 0; i < team->n_tokens*n_heads; ++i) {
            add(whole + i*n_part, from + i*n_part);
        }
    }

    // the rows of the result
    void finish() const {
        const bool has_sinks = dst->src[4] != dst->src[3];
        for (int64_t member = 0; member < team->n_tokens; ++member) {
            for (int64_t h = 0; h < n_heads; ++h) {
                const float * from = part(whole, member, h);
                float * to = (float *) ((char *) dst->data + (sight.tokens[team->tokens + member]*self.n_head + head + h)*dst->nb[1]); // [dv, n_head, n_tokens, n_stream]
                const float sink = has_sinks ? ((const float *) dst->src[4]->data)[head + h] : ALORA_SCORE_MIN;
                const float max  = std::max(sink, from[0]);
                const float mine = from[1] == 0.0f ? 0.0f : std::exp(from[0] - max);
                const float sum  = from[1]*mine + (has_sinks ? std::exp(sink - max) : 0.0f);
                for (int64_t d = 0; d < self.dv; ++d) {
                    to[d] = from[1] == 0.0f ? 0.0f : from[2 + d]*mine/sum;
                }
            }
        }
    }

    void set_unit(const alora_sight::team & team, int64_t i) { // i: of the heads that share cells and their slices
        const int64_t n_shared = self.n_shared(), slice = i % self.n_slices();
        if (this->team != &team || head_kv != i/self.n_slices() || head != head_kv*n_shared + slice*N_LANES) {
            n_members = 0;
        }
        this->team = &team;
        head_kv = i/self.n_slices();
        head    = head_kv*n_shared + slice*N_LANES;
        n_heads = std::min(N_LANES, n_shared - slice*N_LANES);
    }

    // of a segment, in the memory that threads share
    float * shared(const alora_sight::segment & segment) const {
        const int64_t slice = head - head_kv*self.n_shared();
        return self.attention->parts.data()->values +
            n_part*(segment.before*self.n_head + team->n_tokens*(head_kv*self.n_shared() + slice));
    }

    bool run_next(std::atomic<int32_t> & next) {
        const int64_t n_each = self.n_head_kv*self.n_slices();
        const int64_t unit   = next.fetch_add(1, std::memory_order_relaxed);
        if (!self.share) {
            const int64_t i = (int64_t) sight.teams.size() - 1 - unit/n_each; // the last ones see most
            if (i < 0) {
                return false;
            }
            set_unit(sight.teams[i], unit % n_each);
            now = now_scratch;
            forget(whole);
            for (int32_t s = 0; s < team->n_segments; ++s) {
                run(sight.segments[team->segments + s]);
                add_all(now);
            }
            finish();
            return true;
        }
        if (unit/n_each >= (int64_t) sight.segments.size()) {
            return false;
        }
        const auto & segment = sight.segments[sight.by_cells[unit/n_each]];
        set_unit(sight.teams[segment.team], unit % n_each);
        now = shared(segment);
        run(segment);
        auto & n_done = self.attention->n_done[segment.team*n_each + unit % n_each];
        if (n_done.fetch_add(1, std::memory_order_acq_rel) == team->n_segments - 1) {
            n_done.store(0, std::memory_order_relaxed); // for the next node
            forget(whole);
            for (int32_t s = 0; s < team->n_segments; ++s) {
                add_all(shared(sight.segments[team->segments + s]));
            }
            finish();
        }
        return true;
    }
};

void alora_attention::begin(const std::vector<uint8_t> & active, const llama_ubatch & ubatch, const llama_memory_i * memory, int n_threads) {
    this->active    = active;
    this->n_threads = n_threads;
    for (auto & [_, view] : views) {
        look(view, ubatch, memory);
    }
    size_t n_parts = 0, n_groups = 0;
    n_scratch = 0;
    for (auto & node : nodes) {
        const auto & sight = node.seen->sight;
        const size_t n_units = sight.teams.size()*node.n_head_kv*node.n_slices();
        const size_t n = sight.n_segment_tokens()*node.n_head*node.n_part();
        const bool all_see = std::all_of(sight.teams.begin(), sight.teams.end(), [](const alora_sight::team & team) { return team.n_segments > 0; });
        node.next = 0;
        node.share = all_see && sight.segments.size() > sight.teams.size() && n <= N_PARTS*n_threads;
        if (node.share) {
            n_parts  = std::max(n_parts, n);
            n_groups = std::max(n_groups, n_units);
        }
        n_scratch = std::max(n_scratch, worker::n_lines(node));
    }
    if (scratch.size() < n_scratch*n_threads) {
        scratch.resize(n_scratch*n_threads);
    }
    if (parts.size() < (n_parts + 15)/16) {
        parts.resize((n_parts + 15)/16);
    }
    if (n_counters < n_groups) {
        n_done.reset(new std::atomic<int32_t>[n_groups]);
        n_counters = n_groups;
    }
    std::for_each(n_done.get(), n_done.get() + n_counters, [](std::atomic<int32_t> & n) { n = 0; });
}

void alora_attention::compute(ggml_tensor * dst, int ith, int nth, void * userdata) {
    auto & self = *(node *) userdata;
    auto & attention = *self.attention;
    const auto * flash = self.mixed ? dst->src[5] : nullptr;
    for (int64_t i = ith; flash && i < dst->ne[2]*dst->ne[3]; i += nth) {
        if (!attention.active[i]) {
            const size_t n = self.n_head*dst->nb[1];
            memcpy((char *) dst->data + i*n, (const char *) flash->data + i*n, n);
        }
    }
    if (ith < attention.n_threads) {
        worker mine(self, dst, attention.scratch.data() + ith*attention.n_scratch);
        while (mine.run_next(self.next)) {}
    }
}
