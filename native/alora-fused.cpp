#include "alora-fused.h"

#include <algorithm>
#include <cstring>

static constexpr int64_t N_UNIT = 64; // tokens for which the rows of a matrix are fetched once from memory
static constexpr size_t  N_FEW  = 4;  // tokens for which they are not worth sharing among threads

static const struct ones { // the scales of B u
    float values[N_UNIT];

    ones() { std::fill(values, values + N_UNIT, 1.0f); }
} ONES;

struct alora_fused::unit {
    size_t  i_use;
    int64_t n; // tokens

    const char * a; // [n_in, rank], the expert's; or the token's row [rank] of it
    const char * b; // [rank, n_out]

    const float * x[N_UNIT];     // [n_in], or nullptr
    float       * u[N_UNIT];     // [rank]
    float       * y[N_UNIT];     // [n_out]
    float         scale[N_UNIT]; // s
};

// thread ith's part of n rows, in whole steps
struct alora_part {
    int64_t first;
    int64_t end;

    alora_part(int64_t n, int64_t step, int ith, int nth) {
        const int64_t chunk = ((n + nth - 1)/nth + step - 1)/step*step;
        first = std::min(n, chunk*ith);
        end   = std::min(n, first + chunk);
    }
};

static int64_t padded(int64_t n, int64_t to) { return (n + to - 1)/to*to; }

static char * at(const ggml_tensor * t, int64_t i1, int64_t i2 = 0) {
    return (char *) t->data + i1*t->nb[1] + i2*t->nb[2];
}

ggml_tensor * alora_fused::build(ggml_context * ctx0, alora_role role, size_t i_weight, bool outputs,
        ggml_tensor * res, std::initializer_list<ggml_tensor *> args) {
    nodes.emplace_back(this, role, i_weight, outputs);
    if (role == ALORA_ROLE_EXPERTS) {
        n_experts = std::max(n_experts, res->ne[1]);
    }
    std::vector<ggml_tensor *> srcs(args);
    return ggml_custom_inplace(ctx0, res, srcs.data(), (int) srcs.size(), compute, GGML_N_TASKS_MAX, &nodes.back());
}

void alora_fused::set_plan(const alora_plan & plan, uint32_t n_tokens, const int8_t * is_output) {
    last = nullptr;
    tokens.clear();
    outputs.clear();
    disjoint = true;
    std::vector<bool> taken(n_tokens, false);
    size_t n_lines = 0;
    for (const auto & slot : plan.slots) {
        alora_group all { &slot, {}, {} };
        alora_group out { &slot, {}, {} };
        for (uint32_t i = 0, i_out = 0; i < n_tokens; ++i) {
            const bool is_out = !is_output || is_output[i];
            if (slot.scale[i] != 0.0f) {
                disjoint = disjoint && !taken[i];
                taken[i] = true;
                all.rows.push_back(i);
                all.scales.push_back(slot.scale[i]);
                if (is_out) {
                    out.rows.push_back(i_out);
                    out.scales.push_back(slot.scale[i]);
                }
            }
            i_out += is_out;
        }
        int64_t rank_max = 0;
        for (const auto & block : slot.adapter->blocks) {
            rank_max = std::max(rank_max, block.rank);
        }
        n_lines += all.rows.size()*n_experts*padded(rank_max, 16)/16;
        tokens.push_back(std::move(all));
        outputs.push_back(std::move(out));
    }
    if (scratch.size() < n_lines) {
        scratch.resize(n_lines);
    }
    for (auto & node : nodes) {
        node.next_a = 0;
        node.next_b = 0;
        node.u_is_there.begin();
        node.uses.clear();
        for (const auto & group : node.outputs ? outputs : tokens) {
            const auto * pair = group.slot->pair(node.i_weight);
            if (pair && !group.rows.empty()) {
                node.uses.push_back({ &group, pair });
            }
        }
        node.magnitudes_1.clear();
        for (const auto & use : node.uses) {
            for (size_t i = 0; use.pair->magnitude && i < use.group->rows.size(); ++i) {
                node.magnitudes_1.push_back({ use.group->rows[i], (const float *) use.pair->magnitude_1->data });
            }
        }
        std::stable_sort(node.magnitudes_1.begin(), node.magnitudes_1.end(), [](const auto & a, const auto & b) { return a.first < b.first; });
    }
}

template <typename F> void alora_fused::for_each_unit(const node & node, const ggml_tensor * dst, F && f) {
    const ggml_tensor * cur = dst->src[1];
    const ggml_tensor * ids = dst->src[2];
    const auto int_at = [](const ggml_tensor * t, int64_t i0, int64_t i1) { return ((const int32_t *) at(t, i1))[i0]; };

    float * next = scratch.data()->values;

    unit u;
    for (u.i_use = 0; u.i_use < node.uses.size(); ++u.i_use) {
        const auto & pair   = *node.uses[u.i_use].pair;
        const auto & group  = *node.uses[u.i_use].group;
        const float  scale  = group.slot->adapter->blocks[pair.block].scale;
        const size_t n_rows = group.rows.size();

        u.n = 0;
        u.a = at(pair.a, 0);
        u.b = at(pair.b, 0);
        const auto add = [&](size_t i, char * y, const char * x) {
            u.x[u.n]     = (const float *) x;
            u.y[u.n]     = (float *) y;
            u.u[u.n]     = next;
            u.scale[u.n] = scale*group.scales[i];
            u.n++;
            next += padded(pair.b->ne[0], 16);
        };
        for (size_t i = 0; i < n_rows; ++i) {
            const int32_t row = group.rows[i];
            if (node.role == ALORA_ROLE_EXPERTS) {
                for (int64_t e = 0; e < dst->ne[1]; ++e) {
                    u.a = at(pair.a, 0, int_at(ids, e, row));
                    u.b = at(pair.b, 0, int_at(ids, e, row));
                    add(i, at(dst, e, row), at(cur, e % cur->ne[1], row));
                    f(u);
                    u.n = 0;
                }
            } else if (node.role == ALORA_ROLE_ROWS) {
                u.a = at(pair.a, int_at(cur, row, 0));
                add(i, at(dst, row), nullptr);
                f(u);
                u.n = 0;
            } else {
                add(i, at(dst, row), at(cur, row));
                if (u.n == N_UNIT || i == n_rows - 1) {
                    f(u);
                    u.n = 0;
                }
            }
        }
    }
}

// y *= 1 + sum of (g - 1), while y still is the base product
void alora_fused::scale_base(const node & node, ggml_tensor * dst, int64_t i0, int64_t i1) const {
    for (auto first = node.magnitudes_1.begin(), end = first; first != node.magnitudes_1.end(); first = end) {
        end = std::find_if(first, node.magnitudes_1.end(), [&](const auto & m) { return m.first != first->first; });
        float * y = (float *) at(dst, first->first);
        for (int64_t i = i0; i < i1; ++i) {
            float sum = 1.0f;
            for (auto m = first; m != end; ++m) {
                sum += m->second[i];
            }
            y[i] *= sum;
        }
    }
}

void alora_fused::compute(ggml_tensor * dst, int ith, int nth, void * userdata) {
    auto & node  = *(struct node *) userdata;
    auto & fused = *node.fused;
    if (node.uses.empty()) {
        return;
    }
    const auto * next_node = node.next.load(std::memory_order_relaxed);
    if (ith == 0) {
        if (fused.last) {
            fused.last->next.store(&node, std::memory_order_relaxed);
        }
        fused.last = &node;
    }

    // u = s * A x, for the rows [r0, r1) of A
    const auto multiply_a = [&](const unit & u, int64_t r0, int64_t r1, const void * next) {
        const auto * a = node.uses[u.i_use].pair->a;
        if (node.role == ALORA_ROLE_ROWS) { // x has a single 1, and A x is there already
            if (a->type == GGML_TYPE_F32) {
                memcpy(u.u[0], u.a, a->ne[0]*sizeof(float));
            } else {
                ggml_get_type_traits(a->type)->to_float(u.a, u.u[0], a->ne[0]);
            }
            std::transform(u.u[0], u.u[0] + a->ne[0], u.u[0], [&](float v) { return u.scale[0]*v; });
            return;
        }
        for (int64_t t = 0; t < u.n; ++t) {
            std::fill(u.u[t] + r0, u.u[t] + r1, 0.0f);
        }
        fused.kernel({ a->type, u.a, a->nb[1], a->ne[0], nullptr, u.x, u.u, u.scale, u.n, next }, r0, r1);
    };
    // y += g * B u + s * bias, for the rows [i0, i1) of B
    const auto multiply_b = [&](const unit & u, int64_t i0, int64_t i1, const void * next) {
        const auto & pair = *node.uses[u.i_use].pair;
        const auto data = [](const ggml_tensor * t) { return t ? (const float *) t->data : nullptr; };
        fused.kernel({ pair.b->type, u.b, pair.b->nb[1], pair.b->ne[0], data(pair.magnitude), u.u, u.y, ONES.values, u.n, next }, i0, i1);
        for (int64_t t = 0; pair.bias && t < u.n; ++t) {
            for (int64_t i = i0; i < i1; ++i) {
                u.y[t][i] += u.scale[t]*data(pair.bias)[i];
            }
        }
    };

    // what a thread will read next, where that is known: row i of the matrix of a node's use
    const auto row_of = [](const struct node * n, size_t i_use, ggml_tensor * alora_pair::* matrix, const auto & row) -> const void * {
        if (!n || n->role != ALORA_ROLE_MATRIX || i_use >= n->uses.size()) {
            return nullptr;
        }
        const auto * t = n->uses[i_use].pair->*matrix;
        return at(t, row(t));
    };
    const auto row_0 = [](const ggml_tensor *) { return (int64_t) 0; };

    bool few_each      = true;
    bool any_magnitude = false;
    for (const auto & use : node.uses) {
        few_each      = few_each      && use.group->rows.size() <= N_FEW;
        any_magnitude = any_magnitude || use.pair->magnitude;
    }

    // Many adapters with a token or two each: a thread takes whole ones, reads each from end to end and waits for nobody.
    const int64_t n_uses = (int64_t) node.uses.size();
    const alora_part mine(n_uses, 1, ith, nth);
    if (few_each && fused.disjoint && !any_magnitude && 5*n_uses >= 4*padded(n_uses, nth)) {
        fused.for_each_unit(node, dst, [&](const unit & u) {
            if ((int64_t) u.i_use < mine.first || (int64_t) u.i_use >= mine.end) {
                return;
            }
            const bool last = (int64_t) u.i_use == mine.end - 1;
            multiply_a(u, 0, node.uses[u.i_use].pair->a->ne[1], row_of(&node, u.i_use, &alora_pair::b, row_0));
            multiply_b(u, 0, dst->ne[0], row_of(last ? next_node : &node, last ? mine.first : u.i_use + 1, &alora_pair::a, row_0));
        });
        return;
    }

    // Else a part is rows of every adapter.
    int i_part = 0;
    const auto part_of_a = [&](const ggml_tensor * a) { return alora_part(a->ne[1], 4, i_part, nth); };
    const auto part_of_b = [&](const ggml_tensor * b) { return alora_part(b->ne[1], 16, i_part, nth); };
    const auto first_a = [&](const ggml_tensor * a) { return part_of_a(a).first; };
    const auto first_b = [&](const ggml_tensor * b) { return part_of_b(b).first; };
    while ((i_part = node.next_a.fetch_add(1, std::memory_order_relaxed)) < nth) {
        int i_unit = 0;
        fused.for_each_unit(node, dst, [&](const unit & u) {
            const bool last = u.i_use == node.uses.size() - 1;
            const auto part = part_of_a(node.uses[u.i_use].pair->a);
            if (node.role != ALORA_ROLE_ROWS || i_unit++ % nth == i_part) {
                multiply_a(u, part.first, part.end, last ? row_of(&node, 0, &alora_pair::b, first_b) : row_of(&node, u.i_use + 1, &alora_pair::a, first_a));
            }
        });
        node.u_is_there.arrive();
    }
    node.u_is_there.wait(nth);

    while ((i_part = node.next_b.fetch_add(1, std::memory_order_relaxed)) < nth) {
        const auto part = part_of_b(node.uses[0].pair->b);
        if (any_magnitude) {
            fused.scale_base(node, dst, part.first, part.end);
        }
        fused.for_each_unit(node, dst, [&](const unit & u) {
            const bool last = u.i_use == node.uses.size() - 1;
            multiply_b(u, part.first, part.end, last ? row_of(next_node, 0, &alora_pair::a, first_a) : row_of(&node, u.i_use + 1, &alora_pair::b, first_b));
        });
    }
}
