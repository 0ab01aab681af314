#include "alora-fused.h"

#include "alora-kernel.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <map>
#include <thread>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

//
// alora_kernel
//

#ifdef ALORA_KERNELS_X86
void alora_kernel_avx2  (const alora_kernel_args & args, int64_t i0, int64_t i1);
void alora_kernel_avx512(const alora_kernel_args & args, int64_t i0, int64_t i1);
#endif
void alora_kernel_generic(const alora_kernel_args & args, int64_t i0, int64_t i1);

alora_kernel alora_kernel_get() {
    const char * name = getenv("ALORA_KERNEL");
    const auto may_be = [&](const char * kernel) { return !name || strcmp(name, kernel) == 0; };
#ifdef ALORA_KERNELS_X86
    if (may_be("avx512") && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
            __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")) {
        return alora_kernel_avx512;
    }
    if (may_be("avx2") && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c")) {
        return alora_kernel_avx2;
    }
#else
    GGML_UNUSED(may_be);
#endif
    return alora_kernel_generic;
}

//
// alora_barrier
//

void alora_barrier::wait(int n_threads) {
    if (n_threads == 1) {
        return;
    }
    const int passed = n_passed.load(std::memory_order_relaxed);
    if (n_arrived.fetch_add(1, std::memory_order_acq_rel) == n_threads - 1) {
        n_arrived.store(0, std::memory_order_relaxed);
        n_passed.store(passed + 1, std::memory_order_release);
        return;
    }
    for (int i = 0; n_passed.load(std::memory_order_acquire) == passed; ++i) {
        if (i >= 10000) { // more threads than cores
            std::this_thread::yield();
        }
#if defined(__x86_64__)
        _mm_pause();
#elif defined(__aarch64__)
        __asm__ volatile("yield" ::: "memory");
#endif
    }
}

//
// alora_fused
//

ggml_tensor * alora_fused::build(ggml_context * ctx0, alora_role role, size_t i_weight, bool outputs,
        ggml_tensor * res, std::initializer_list<ggml_tensor *> args) {
    nodes.push_back({ this, role, i_weight, outputs });
    if (role == ALORA_ROLE_EXPERTS) {
        n_experts = std::max(n_experts, res->ne[1]);
    }
    std::vector<ggml_tensor *> srcs(args);
    return ggml_custom_inplace(ctx0, res, srcs.data(), (int) srcs.size(), compute, GGML_N_TASKS_MAX, &nodes.back());
}

static int64_t padded(int64_t n, int64_t to) { return (n + to - 1)/to*to; }

void alora_fused::set_plan(const alora_plan & plan, uint32_t n_tokens, const int8_t * is_output) {
    tokens.clear();
    outputs.clear();
    size_t n_lines = 0;
    for (const auto & slot : plan.slots) {
        alora_group all { &slot, {}, {} };
        alora_group out { &slot, {}, {} };
        for (uint32_t i = 0, i_out = 0; i < n_tokens; ++i) {
            const bool is_out = !is_output || is_output[i];
            if (slot.scale[i] != 0.0f) {
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
}

namespace {

constexpr int64_t N_UNIT = 64; // tokens for which the rows of a matrix are fetched once from memory

struct unit {
    const alora_group * group;
    const alora_pair  * pair;

    int64_t i_group;  // of its first token among the group's
    int64_t i_expert; // among those of the weight
    int64_t n;        // tokens

    const float * x[N_UNIT];     // [n_in]
    float       * u[N_UNIT];     // [rank]
    float       * y[N_UNIT];     // [n_out]
    float         scale[N_UNIT]; // s
};

// thread ith's part of n rows, in whole steps
struct part {
    int64_t first;
    int64_t end;

    part(int64_t n, int64_t step, int ith, int nth) {
        const int64_t chunk = padded((n + nth - 1)/nth, step);
        first = std::min(n, chunk*ith);
        end   = std::min(n, first + chunk);
    }
};

char * at(const ggml_tensor * t, int64_t i1, int64_t i2 = 0) {
    return (char *) t->data + i1*t->nb[1] + i2*t->nb[2];
}

} // namespace

template <typename F> void alora_fused::for_each_unit(const node & node, const ggml_tensor * dst, F && f) {
    const ggml_tensor * cur = dst->src[1];
    const ggml_tensor * ids = dst->src[2];
    float * next = scratch.empty() ? nullptr : scratch.data()->values;

    for (const auto & group : node.outputs ? outputs : tokens) {
        const auto * pair = group.slot->pair(node.i_weight);
        if (!pair) {
            continue;
        }
        const int64_t rank_padded = padded(pair->b->ne[0], 16);
        const float   scale       = group.slot->adapter->blocks[pair->block].scale;

        unit u;
        u.group = &group;
        u.pair  = pair;
        u.n     = 0;
        const auto add = [&](int64_t i, float * y, const float * x) {
            if (u.n == 0) {
                u.i_group = i;
            }
            u.x[u.n]     = x;
            u.y[u.n]     = y;
            u.u[u.n]     = next;
            u.scale[u.n] = scale*group.scales[i];
            u.n++;
            next += rank_padded;
        };

        const int64_t n_rows = (int64_t) group.rows.size();
        for (int64_t i = 0; i < n_rows; ++i) {
            const int32_t row = group.rows[i];
            if (node.role == ALORA_ROLE_EXPERTS) {
                for (int64_t e = 0; e < dst->ne[1]; ++e) {
                    u.i_expert = *((const int32_t *) at(ids, row) + e);
                    add(i, (float *) at(dst, e, row), (const float *) at(cur, e % cur->ne[1], row));
                    f(u);
                    u.n = 0;
                }
                continue;
            }
            u.i_expert = 0;
            add(i, (float *) at(dst, row), node.role == ALORA_ROLE_ROWS ? nullptr : (const float *) at(cur, row));
            if (u.n == N_UNIT || i == n_rows - 1) {
                f(u);
                u.n = 0;
            }
        }
    }
}

// y *= 1 + sum of (g - 1), while y still is the base product
void alora_fused::scale_base(const node & node, ggml_tensor * dst, int64_t i0, int64_t i1) const {
    std::map<int32_t, std::vector<const float *>> magnitudes_1; // by row
    for (const auto & group : node.outputs ? outputs : tokens) {
        const auto * pair = group.slot->pair(node.i_weight);
        if (pair && pair->magnitude) {
            for (const auto row : group.rows) {
                magnitudes_1[row].push_back((const float *) pair->magnitude_1->data);
            }
        }
    }
    for (const auto & [row, vectors] : magnitudes_1) {
        float * y = (float *) at(dst, row);
        for (int64_t i = i0; i < i1; ++i) {
            float sum = 1.0f;
            for (const auto * v : vectors) {
                sum += v[i];
            }
            y[i] *= sum;
        }
    }
}

void alora_fused::compute(ggml_tensor * dst, int ith, int nth, void * userdata) {
    static const alora_kernel kernel = alora_kernel_get();

    const auto & node  = *(const struct node *) userdata;
    auto       & fused = *node.fused;

    bool any           = false;
    bool any_magnitude = false;
    for (const auto & group : node.outputs ? fused.outputs : fused.tokens) {
        const auto * pair = group.rows.empty() ? nullptr : group.slot->pair(node.i_weight);
        any           = any           || pair;
        any_magnitude = any_magnitude || (pair && pair->magnitude);
    }
    if (!any) {
        return;
    }

    // u = s * A x
    fused.for_each_unit(node, dst, [&](const unit & u) {
        const auto * a = u.pair->a;
        if (node.role == ALORA_ROLE_ROWS) {
            const auto to_float = ggml_get_type_traits(a->type)->to_float;
            for (int64_t t = ith; t < u.n; t += nth) {
                const int32_t token = ((const int32_t *) dst->src[1]->data)[u.group->rows[u.i_group + t]];
                if (a->type == GGML_TYPE_F32) {
                    memcpy(u.u[t], at(a, token), a->ne[0]*sizeof(float));
                } else {
                    to_float(at(a, token), u.u[t], a->ne[0]);
                }
                std::transform(u.u[t], u.u[t] + a->ne[0], u.u[t], [&](float v) { return u.scale[t]*v; });
            }
            return;
        }
        const part p(a->ne[1], 4, ith, nth);
        for (int64_t t = 0; t < u.n; ++t) {
            std::fill(u.u[t] + p.first, u.u[t] + p.end, 0.0f);
        }
        kernel({ a->type, at(a, 0, u.i_expert), a->nb[1], a->ne[0], nullptr, u.x, u.u, u.scale, u.n }, p.first, p.end);
    });

    fused.barrier.wait(nth);

    const part p(dst->ne[0], 16, ith, nth);
    if (any_magnitude) {
        fused.scale_base(node, dst, p.first, p.end);
    }

    // y += g * B u + s * bias
    static const std::vector<float> ones(N_UNIT, 1.0f);
    fused.for_each_unit(node, dst, [&](const unit & u) {
        const auto * b = u.pair->b;
        const auto data = [](const ggml_tensor * t) { return t ? (const float *) t->data : nullptr; };
        kernel({ b->type, at(b, 0, u.i_expert), b->nb[1], b->ne[0], data(u.pair->magnitude), u.u, u.y, ones.data(), u.n }, p.first, p.end);
        if (const float * bias = data(u.pair->bias)) {
            for (int64_t t = 0; t < u.n; ++t) {
                for (int64_t i = p.first; i < p.end; ++i) {
                    u.y[t][i] += u.scale[t]*bias[i];
                }
            }
        }
    });
}
