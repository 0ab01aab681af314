#include "alora-attention.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <iterator>
#include <map>
#include <numeric>

static int64_t padded(int64_t n_lanes) {
    return n_lanes <= 4 ? 4 : n_lanes <= 8 ? 8 : (n_lanes + 15)/16*16;
}

static const char * at(const ggml_tensor * t, int64_t i1, int64_t i2) {
    return (const char *) t->data + i1*t->nb[1] + i2*t->nb[2];
}

static constexpr uint16_t MASKED = 0xfc00; // -inf

static float param(const ggml_tensor * flash, int i) {
    float res;
    memcpy(&res, (const float *) flash->op_params + i, sizeof(res));
    return res;
}

bool alora_attention::takes(const ggml_tensor * flash) const {
    const auto * q = flash->src[0], * k = flash->src[1], * v = flash->src[2], * mask = flash->src[3], * sinks = flash->src[4];
    const bool has_type = k->type == GGML_TYPE_F32 || k->type == GGML_TYPE_F16 || k->type == GGML_TYPE_BF16 || k->type == GGML_TYPE_Q8_0;
    const bool has_bias = param(flash, 1) != 0.0f, has_softcap = param(flash, 2) != 0.0f;
    return kernel && has_type && v->type == k->type && !has_bias && !has_softcap && q->type == GGML_TYPE_F32 &&
        mask && mask->type == GGML_TYPE_F16 && mask->ne[2] == 1 && (!sinks || sinks->type == GGML_TYPE_F32) &&
        q->ne[1] <= N_TOKENS_MAX && q->ne[3] == 1 && k->ne[3] == 1 && k->ne[2] == v->ne[2] && q->ne[2] % k->ne[2] == 0 &&
        k->ne[0] % 8 == 0 && v->ne[0] % 8 == 0 && k->nb[0] == ggml_type_size(k->type) && v->nb[0] == ggml_type_size(v->type);
}

ggml_tensor * alora_attention::build(ggml_context * ctx0, ggml_tensor * flash, bool mixed, const std::function<void(ggml_tensor *)> & place) {
    nodes.push_back({ this, param(flash, 0), mixed });
    std::vector<ggml_tensor *> args(flash->src, flash->src + (flash->src[4] ? 5 : 4));
    if (mixed) {
        auto *& mask = masks[flash->src[3]];
        if (!mask) {
            mask = ggml_custom_4d(ctx0, flash->src[3]->type, flash->src[3]->ne[0], flash->src[3]->ne[1], 1, flash->src[3]->ne[3],
                &flash->src[3], 1, mask_of_base, GGML_N_TASKS_MAX, this);
            place(mask);
        }
        flash->src[3] = mask;
        args.push_back(flash);
    }
    auto * res = ggml_custom_4d(ctx0, GGML_TYPE_F32, flash->ne[0], flash->ne[1], flash->ne[2], flash->ne[3],
        args.data(), (int) args.size(), compute, GGML_N_TASKS_MAX, &nodes.back());
    place(res);
    return res;
}

void alora_attention::mask_of_base(ggml_tensor * dst, int ith, int nth, void * userdata) {
    const auto & active = ((const alora_attention *) userdata)->active;
    for (int64_t i = ith; i < dst->ne[1]; i += nth) {
        auto * to = (uint16_t *) at(dst, i, 0);
        if ((size_t) i < active.size() && active[i]) {
            std::fill(to, to + dst->ne[0], MASKED);
        } else {
            memcpy(to, at(dst->src[0], i, 0), dst->ne[0]*sizeof(*to));
        }
    }
}

struct alora_attention::thread {
    std::vector<line> scratch;

    // Cells that lie together, and who sees them, of 64 tokens or fewer: a set of tokens is a number, whose bits they are.
    struct tile {
        int32_t  first;
        int32_t  n;
        uint64_t seeing; // tokens that see some of its cells
        bool     whole;  // they see all of them
    };
    struct sight {
        std::vector<tile>    tiles;
        std::vector<int32_t> others[64]; // by token: cells that it sees of tiles of which little is seen
    };

    // by mask: all layers, or all of a kind, have the same
    std::map<const ggml_tensor *, std::vector<sight>> sights;
    uint64_t n_computed = 0; // when they were looked up
};

alora_attention::alora_attention() : threads(GGML_MAX_N_THREADS) {}
alora_attention::~alora_attention() = default;

// One thread's cells, every nth tile of them, for all queries. Its part of a query's softmax is
// [max, sum, acc [dv]]; the parts of all threads are added in the end.
struct alora_attention::pass {
    const node & self;
    const ggml_tensor * q;
    const ggml_tensor * k;
    const ggml_tensor * v;
    const ggml_tensor * mask;

    const int64_t n_tokens = q->ne[1];
    const int64_t n_head   = q->ne[2];
    const int64_t n_kv     = k->ne[1];
    const int64_t n_shared = n_head/k->ne[2]; // heads that share a cell
    const int64_t dk       = k->ne[0];
    const int64_t dv       = v->ne[0];
    const int64_t n_part   = 2 + dv;

    // so many tokens at once that their queries fill three of the widest vectors
    const int64_t n_at_once   = std::max<int64_t>(1, 48/n_shared);
    const int64_t n_lanes_max = padded(n_at_once*n_shared);

    // a set of tokens
    int64_t first = 0;
    int64_t n_set = 0;

    // the scratch
    float * parts; // [n_part, n_head, n_tokens]
    float * lane_q, * lane_mask, * lane_max, * lane_sum, * lane_acc, * lane_scratch;

    // what the lanes are now
    std::vector<int64_t> tokens;
    int64_t i_shared = 0; // which head of the cache
    int64_t n_lanes  = 0;

    pass(const node & self, const ggml_tensor * dst, std::vector<line> & scratch)
        : self(self), q(dst->src[0]), k(dst->src[1]), v(dst->src[2]), mask(dst->src[3]) {
        size_t n = 0;
        const auto lines = [&](int64_t n_floats) {
            const size_t first = n;
            n += (n_floats + 15)/16;
            return first;
        };
        const size_t firsts[] = {
            lines(n_part*n_head*n_tokens), lines(n_lanes_max*dk), lines(n_lanes_max*ALORA_N_CELLS), lines(n_lanes_max), lines(n_lanes_max),
            lines(n_lanes_max*dv), lines(alora_attention_scratch(dk, dv, n_lanes_max)) };
        if (scratch.size() < n) {
            scratch.resize(n);
        }
        float ** const pointers[] = { &parts, &lane_q, &lane_mask, &lane_max, &lane_sum, &lane_acc, &lane_scratch };
        for (size_t i = 0; i < std::size(pointers); ++i) {
            *pointers[i] = scratch[firsts[i]].values;
        }
        for (int64_t i = 0; i < n_head*n_tokens; ++i) {
            parts[i*n_part]     = ALORA_SCORE_MIN;
            parts[i*n_part + 1] = 0.0f;
        }
    }

    const uint16_t * mask_of(int64_t token) const { return (const uint16_t *) at(mask, token, 0); }

    static bool is_seen(uint16_t mask) { return mask != MASKED; }

    bool is_mine(int64_t token) const { return !self.mixed || self.attention->active[token]; }

    thread::sight look(int ith, int nth) const {
        thread::sight res;
        for (int64_t cell = ith*ALORA_N_CELLS; cell < n_kv; cell += nth*ALORA_N_CELLS) {
            const int64_t n = std::min(ALORA_N_CELLS, n_kv - cell);
            thread::tile t { (int32_t) cell, (int32_t) n, 0, true };
            int64_t n_seen = 0, n_seeing = 0;
            for (int64_t i = 0; i < n_set; ++i) {
                if (!is_mine(first + i)) {
                    continue;
                }
                const auto * m = mask_of(first + i) + cell;
                const int64_t sees = std::count_if(m, m + n, is_seen);
                n_seen   += sees;
                n_seeing += sees > 0;
                t.seeing |= (uint64_t) (sees > 0) << i;
                t.whole   = t.whole && (sees == 0 || sees == n);
            }
            if (n_seeing && 4*n_seen >= n_seeing*n) {
                res.tiles.push_back(t);
                continue;
            }
            for (int64_t i = 0; i < n_set; ++i) {
                const auto * m = mask_of(first + i) + cell;
                for (int64_t j = 0; (t.seeing >> i & 1) && j < n; ++j) {
                    if (is_seen(m[j])) {
                        res.others[i].push_back(cell + j);
                    }
                }
            }
        }
        return res;
    }

    void begin(uint64_t set) {
        tokens.clear();
        for (int64_t i = 0; i < n_set; ++i) {
            if (set >> i & 1) {
                tokens.push_back(first + i);
            }
        }
        n_lanes = padded(tokens.size()*n_shared);
        std::fill(lane_q,   lane_q   + n_lanes*dk, 0.0f);
        std::fill(lane_max, lane_max + n_lanes,    ALORA_SCORE_MIN);
        std::fill(lane_sum, lane_sum + n_lanes,    0.0f);
        std::fill(lane_acc, lane_acc + n_lanes*dv, 0.0f);
        for_each_lane([&](int64_t lane, int64_t token, int64_t head) {
            const auto * from = (const float *) at(q, token, head);
            for (int64_t d = 0; d < dk; ++d) {
                lane_q[d*n_lanes + lane] = self.scale*from[d];
            }
        });
    }

    void add(const int32_t * cells, int64_t n_cells, bool masked) {
        self.attention->kernel({ k->type, at(k, 0, i_shared), at(v, 0, i_shared), k->nb[1], v->nb[1], dk, dv, cells, n_cells,
            lane_q, masked ? lane_mask : nullptr, n_lanes, lane_max, lane_sum, lane_acc, lane_scratch });
    }

    void end() {
        for_each_lane([&](int64_t lane, int64_t token, int64_t head) {
            float * part = parts + n_part*(token*n_head + head);
            const float max  = std::max(part[0], lane_max[lane]);
            const float was  = part[1] == 0.0f ? 0.0f : std::exp(part[0] - max);
            const float adds = std::exp(lane_max[lane] - max);
            part[0] = max;
            part[1] = part[1]*was + lane_sum[lane]*adds;
            for (int64_t d = 0; d < dv; ++d) {
                part[2 + d] = (was == 0.0f ? 0.0f : part[2 + d]*was) + lane_acc[d*n_lanes + lane]*adds;
            }
        });
    }

    void run(int ith, int nth, thread & kept) {
        if (kept.n_computed != self.attention->n_computed) {
            kept.n_computed = self.attention->n_computed;
            kept.sights.clear();
        }
        auto & sights = kept.sights[mask];
        for (first = 0; first < n_tokens; first += n_set) {
            n_set = std::min<int64_t>(64, n_tokens - first);
            const size_t i_set = first/64;
            if (i_set == sights.size()) {
                sights.push_back(look(ith, nth));
            }
            const auto & seen = sights[i_set];
            for (i_shared = 0; i_shared < k->ne[2]; ++i_shared) {
                for (int64_t i = 0; i < n_set; i += n_at_once) {
                    run_tiles(seen.tiles, (~uint64_t(0) >> (64 - std::min<int64_t>(64, n_at_once))) << i);
                }
                for (int64_t i = 0; i < n_set; ++i) {
                    run_others(seen.others[i], i);
                }
            }
        }
    }

    void run_tiles(const std::vector<thread::tile> & tiles, uint64_t at_once) {
        uint64_t set = 0;
        for (const auto & tile : tiles) {
            const uint64_t seeing = tile.seeing & at_once;
            if (!seeing) {
                continue;
            }
            if (seeing != set) {
                if (set) {
                    end();
                }
                begin(set = seeing);
            }
            int32_t cells[ALORA_N_CELLS];
            std::iota(cells, cells + tile.n, tile.first);
            if (!tile.whole) {
                std::fill(lane_mask, lane_mask + tile.n*n_lanes, 0.0f);
                for_each_lane([&](int64_t lane, int64_t token, int64_t) {
                    const auto * m = mask_of(token) + tile.first;
                    for (int32_t i = 0; i < tile.n; ++i) {
                        lane_mask[i*n_lanes + lane] = is_seen(m[i]) ? 0.0f : ALORA_SCORE_MASKED;
                    }
                });
            }
            add(cells, tile.n, !tile.whole);
        }
        if (set) {
            end();
        }
    }

    void run_others(const std::vector<int32_t> & cells, int64_t i) {
        if (cells.empty()) {
            return;
        }
        begin(uint64_t(1) << i);
        for (size_t j = 0; j < cells.size(); j += ALORA_N_CELLS) {
            add(cells.data() + j, std::min<int64_t>(ALORA_N_CELLS, cells.size() - j), false);
        }
        end();
    }

    // f(lane, token, head of the queries)
    template <typename F> void for_each_lane(F && f) const {
        int64_t lane = 0;
        for (const auto token : tokens) {
            for (int64_t i = 0; i < n_shared; ++i) {
                f(lane++, token, i_shared*n_shared + i);
            }
        }
    }
};

void alora_attention::compute(ggml_tensor * dst, int ith, int nth, void * userdata) {
    auto & self = *(node *) userdata;
    auto & threads = self.attention->threads;

    pass mine(self, dst, threads[ith].scratch);
    mine.run(ith, nth, threads[ith]);
    self.attention->barrier.wait(nth);

    const auto * flash = self.mixed ? dst->src[dst->src[5] ? 5 : 4] : nullptr;
    const auto * sinks = dst->src[4] != flash ? dst->src[4] : nullptr;
    for (int64_t i = ith; i < mine.n_tokens*mine.n_head; i += nth) {
        float * to = (float *) ((char *) dst->data + i*dst->nb[1]); // [dv, n_head, n_tokens]
        if (!mine.is_mine(i/mine.n_head)) {
            memcpy(to, (const char *) flash->data + i*flash->nb[1], mine.dv*sizeof(*to));
            continue;
        }
        const auto part = [&](int t) { return (const float *) threads[t].scratch.data() + mine.n_part*i; };
        const float sink = sinks ? ((const float *) sinks->data)[i % mine.n_head] : ALORA_SCORE_MIN;
        float max = sink;
        for (int t = 0; t < nth; ++t) {
            max = std::max(max, part(t)[0]);
        }
        float sum = sinks ? std::exp(sink - max) : 0.0f;
        for (int t = 0; t < nth; ++t) {
            sum += std::exp(part(t)[0] - max)*part(t)[1];
        }
        std::fill(to, to + mine.dv, 0.0f);
        for (int t = 0; t < nth && sum > 0.0f; ++t) {
            const float weight = std::exp(part(t)[0] - max)/sum;
            for (int64_t d = 0; part(t)[1] != 0.0f && d < mine.dv; ++d) {
                to[d] += weight*part(t)[2 + d];
            }
        }
    }
}
