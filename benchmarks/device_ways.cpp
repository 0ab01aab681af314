// Ways to apply many adapters in one ubatch with ggml's ops alone, as a device has to: what each adds to the
// base's products in milliseconds, nodes that a device launches, and memory. `make bench-device-ways` runs it.
//
//   device-ways [BACKEND]     a backend's name as ggml prints it, default CPU: one thread of it
//
// Rank 32 in F16 on the seven projections of a layer, the base in Q4_0. A layer is measured; others repeat it.
//
//   loop     an adapter: A, times a mask over all rows, B, added            nothing is copied
//   gather   an adapter: its rows alone, A, times their scales, B, put back  nothing is copied
//   slots    all: two mul_mat_id on stacks of adapters, slot 0 zero          needs copies of equal rank
//   concat   all: one A of all ranks, times a mask, one B of all ranks       needs copies
//   both     the rows of all adapters gathered, then as concat               needs copies

#include "ggml-alloc.h"
#include "ggml-backend.h"
#include "ggml-cpp.h"
#include "ggml-cpu.h"
#include "ggml.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <ctime>
#include <functional>
#include <map>
#include <memory>
#include <numeric>
#include <random>
#include <string>
#include <type_traits>
#include <vector>

static constexpr int64_t RANK = 32;

struct model_shape { const char * name; int64_t n_embd, n_kv, n_ff; int n_layer; }; // n_layer: enough to leave the caches
static const model_shape SHAPES[] = { { "135M", 576, 192, 1536, 4 }, { "1B", 2048, 512, 8192, 1 } };

// the last rows are active, in equal parts for each adapter
struct batch { const char * name; int64_t n_rows; int n_adapters; int64_t n_active; };
static const batch BATCHES[] = {
    { "1 token",                   1,   1,   1 }, { "8 tokens",                   8, 1,   8 }, { "8 tokens",     8, 2,   8 },
    { "8 tokens",                  8,   4,   8 }, { "8 tokens",                   8, 8,   8 }, { "32 tokens",   32, 32, 32 },
    { "256 tokens",              256,   1, 256 }, { "256 tokens",               256, 2, 256 }, { "256 tokens", 256,  8, 256 },
    { "256 tokens",              256,  32, 256 }, { "256 tokens, last 8 active", 256, 1,   8 }, { "256 tokens, last 8 active", 256, 8, 8 },
};

struct projection {
    int x; // which of the layer's inputs
    ggml_tensor * w;
    std::vector<ggml_tensor *> a, b;
    ggml_tensor * a_stack, * b_stack, * a_cat, * b_cat;
};

struct weights {
    std::vector<std::vector<projection>> layers;
    ggml_context_ptr        ctx;
    ggml_backend_buffer_ptr buf;

    weights(const model_shape & s, int n_adapters, ggml_backend_t backend) {
        ctx.reset(ggml_init({ ggml_tensor_overhead()*(s.n_layer*7*(2*(size_t) n_adapters + 5) + 1), nullptr, true }));
        for (int l = 0; l < s.n_layer; ++l) {
            layers.push_back({ make(0, s.n_embd, s.n_embd, n_adapters), make(0, s.n_embd, s.n_kv, n_adapters), make(0, s.n_embd, s.n_kv, n_adapters),
                make(1, s.n_embd, s.n_embd, n_adapters), make(2, s.n_embd, s.n_ff, n_adapters), make(2, s.n_embd, s.n_ff, n_adapters),
                make(3, s.n_ff, s.n_embd, n_adapters) });
        }
        buf.reset(ggml_backend_alloc_ctx_tensors(ctx.get(), backend));
        for (auto & layer : layers) {
            for (auto & p : layer) {
                fill(p);
            }
        }
    }

    projection make(int x, int64_t n_in, int64_t n_out, int n_adapters) {
        projection p { x, ggml_new_tensor_2d(ctx.get(), GGML_TYPE_Q4_0, n_in, n_out), {}, {}, nullptr, nullptr, nullptr, nullptr };
        for (int k = 0; k < n_adapters; ++k) {
            p.a.push_back(ggml_new_tensor_2d(ctx.get(), GGML_TYPE_F16, n_in, RANK));
            p.b.push_back(ggml_new_tensor_2d(ctx.get(), GGML_TYPE_F16, RANK, n_out));
        }
        p.a_stack = ggml_new_tensor_3d(ctx.get(), GGML_TYPE_F16, n_in, RANK, n_adapters + 1);
        p.b_stack = ggml_new_tensor_3d(ctx.get(), GGML_TYPE_F16, RANK, n_out, n_adapters + 1);
        p.a_cat   = ggml_new_tensor_2d(ctx.get(), GGML_TYPE_F16, n_in, RANK*n_adapters);
        p.b_cat   = ggml_new_tensor_2d(ctx.get(), GGML_TYPE_F16, RANK*n_adapters, n_out);
        return p;
    }

    void fill(projection & p) {
        static std::minstd_rand rng(1);
        static std::vector<float> noise; // a stretch of it for each tensor
        if (noise.empty()) {
            std::normal_distribution<float> normal(0.0f, 0.03f);
            noise.resize(1 << 20);
            std::generate(noise.begin(), noise.end(), [&] { return normal(rng); });
        }
        const auto random = [&](size_t n) {
            std::vector<float> res(n);
            size_t from = rng() % noise.size();
            for (auto & v : res) {
                v = noise[from++ % noise.size()];
            }
            return res;
        };
        const auto in_w = random(ggml_nelements(p.w));
        std::vector<char> quantized(ggml_nbytes(p.w));
        ggml_quantize_chunk(p.w->type, in_w.data(), quantized.data(), 0, p.w->ne[1], p.w->ne[0], nullptr);
        ggml_backend_tensor_set(p.w, quantized.data(), 0, quantized.size());
        ggml_backend_tensor_memset(p.a_stack, 0, 0, p.a_stack->nb[2]);
        ggml_backend_tensor_memset(p.b_stack, 0, 0, p.b_stack->nb[2]);
        for (size_t k = 0; k < p.a.size(); ++k) {
            const size_t n_a = ggml_nbytes(p.a[k]), n_b = ggml_nbytes(p.b[k]), n_row = RANK*sizeof(ggml_fp16_t);
            std::vector<ggml_fp16_t> half(std::max(n_a, n_b)/sizeof(ggml_fp16_t));
            ggml_fp32_to_fp16_row(random(n_a/sizeof(ggml_fp16_t)).data(), half.data(), n_a/sizeof(ggml_fp16_t));
            ggml_backend_tensor_set(p.a[k], half.data(), 0, n_a);
            ggml_backend_tensor_set(p.a_stack, half.data(), (k + 1)*p.a_stack->nb[2], n_a);
            ggml_backend_tensor_set(p.a_cat, half.data(), k*n_a, n_a);
            ggml_fp32_to_fp16_row(random(n_b/sizeof(ggml_fp16_t)).data(), half.data(), n_b/sizeof(ggml_fp16_t));
            ggml_backend_tensor_set(p.b[k], half.data(), 0, n_b);
            ggml_backend_tensor_set(p.b_stack, half.data(), (k + 1)*p.b_stack->nb[2], n_b);
            ggml_backend_tensor_set_2d(p.b_cat, half.data(), k*n_row, n_row, p.b_cat->ne[1], p.b_cat->nb[1], n_row);
        }
    }
};

// One graph: the products of all layers, and what a way adds to them.
struct graph {
    const batch & of;
    ggml_context_ptr  ctx { ggml_init({ ggml_tensor_overhead()*65536 + ggml_graph_overhead_custom(65536, false), nullptr, true }) };
    ggml_cgraph     * nodes = ggml_new_graph_custom(ctx.get(), 65536, false);
    ggml_gallocr_ptr  alloc;
    ggml_tensor     * x[4];
    std::vector<ggml_tensor *> results;

    std::vector<int32_t> all, active;        // rows
    std::vector<std::vector<int32_t>> mine;  // of each adapter
    std::vector<int> adapters;               // 0, 1, ...
    std::vector<int32_t> slots;              // of each row, 0: none

    std::map<std::string, std::pair<ggml_tensor *, std::vector<char>>> inputs;
    std::map<std::pair<ggml_tensor *, ggml_tensor *>, ggml_tensor *> gathered; // in this layer

    graph(const batch & of, const model_shape & s) : of(of), all(of.n_rows), mine(of.n_adapters), adapters(of.n_adapters), slots(of.n_rows) {
        for (int i = 0; i < 4; ++i) {
            x[i] = ggml_new_tensor_2d(ctx.get(), GGML_TYPE_F32, i == 3 ? s.n_ff : s.n_embd, of.n_rows);
            keep(x[i]);
        }
        std::iota(all.begin(), all.end(), 0);
        std::iota(adapters.begin(), adapters.end(), 0);
        for (int64_t i = 0; i < of.n_active; ++i) {
            const int k = (int) (i*of.n_adapters/of.n_active);
            active.push_back((int32_t) (of.n_rows - of.n_active + i));
            mine[k].push_back(active.back());
            slots[active.back()] = k + 1;
        }
    }

    static void keep(ggml_tensor * t) { // its values, from one step to the next
        ggml_set_input(t);
        ggml_set_output(t);
    }

    template <typename T> ggml_tensor * input(const std::string & name, const std::vector<T> & values, int64_t ne0) {
        auto & [tensor, bytes] = inputs[name];
        if (!tensor) {
            tensor = ggml_new_tensor_2d(ctx.get(), std::is_same<T, float>() ? GGML_TYPE_F32 : GGML_TYPE_I32, ne0, values.size()/ne0);
            keep(tensor);
            bytes.assign((const char *) values.data(), (const char *) (values.data() + values.size()));
        }
        return tensor;
    }

    // [RANK * adapters, rows]: 1 where the row is the adapter's
    ggml_tensor * mask(const std::string & name, const std::vector<int> & of_adapters, const std::vector<int32_t> & rows) {
        std::vector<float> values;
        for (const auto row : rows) {
            for (const auto k : of_adapters) {
                values.insert(values.end(), RANK, slots[row] == k + 1 ? 1.0f : 0.0f);
            }
        }
        return input(name, values, RANK*(int64_t) of_adapters.size());
    }

    // rows of a layer's input, once for all that it is multiplied by
    ggml_tensor * gather(ggml_tensor * cur, ggml_tensor * rows) {
        auto & t = gathered[{ cur, rows }];
        return t = t ? t : ggml_get_rows(ctx.get(), cur, rows);
    }

    ggml_tensor * put(ggml_tensor * res, ggml_tensor * delta, ggml_tensor * rows) {
        return ggml_set_rows(ctx.get(), res, ggml_add(ctx.get(), ggml_get_rows(ctx.get(), res, rows), delta), rows);
    }

    bool finish(ggml_backend_t backend) {
        for (auto * t : results) {
            ggml_set_output(t);
            ggml_build_forward_expand(nodes, t);
        }
        for (int i = 0; i < ggml_graph_n_nodes(nodes); ++i) {
            if (!ggml_backend_supports_op(backend, ggml_graph_node(nodes, i))) {
                printf("%s is not supported\n", ggml_op_name(ggml_graph_node(nodes, i)->op));
                return false;
            }
        }
        alloc.reset(ggml_gallocr_new(ggml_backend_get_default_buffer_type(backend)));
        if (!ggml_gallocr_alloc_graph(alloc.get(), nodes)) {
            return false;
        }
        for (auto * t : x) {
            std::vector<float> v(ggml_nelements(t));
            for (size_t i = 0; i < v.size(); ++i) {
                v[i] = sinf(0.37f*i);
            }
            ggml_backend_tensor_set(t, v.data(), 0, ggml_nbytes(t));
        }
        for (const auto & [_, in] : inputs) {
            if (in.first->buffer) { // used
                ggml_backend_tensor_set(in.first, in.second.data(), 0, in.second.size());
            }
        }
        return true;
    }

    int n_launched() const {
        int res = 0;
        for (int i = 0; i < ggml_graph_n_nodes(nodes); ++i) {
            const auto op = ggml_graph_node(nodes, i)->op;
            res += op != GGML_OP_NONE && op != GGML_OP_VIEW && op != GGML_OP_RESHAPE && op != GGML_OP_PERMUTE && op != GGML_OP_TRANSPOSE;
        }
        return res;
    }

    double ms(ggml_backend_t backend) {
        // one thread's own time is the same on a busy machine
        const auto now = [&] {
            return ggml_backend_is_cpu(backend) ? 1e3*clock()/CLOCKS_PER_SEC
                                                : std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now().time_since_epoch()).count();
        };
        const double began = now();
        ggml_backend_graph_compute(backend, nodes);
        ggml_backend_synchronize(backend);
        return now() - began;
    }

    std::vector<float> last() const {
        std::vector<float> res(ggml_nelements(results.back()));
        ggml_backend_tensor_get(results.back(), res.data(), 0, res.size()*sizeof(float));
        return res;
    }
};

using way = std::function<ggml_tensor * (graph &, const projection &, ggml_tensor * cur, ggml_tensor * res)>;

static const std::pair<const char *, way> WAYS[] = {
    { "base", [](graph &, const projection &, ggml_tensor *, ggml_tensor * res) { return res; } },
    { "loop", [](graph & g, const projection & p, ggml_tensor * cur, ggml_tensor * res) {
        for (const int k : g.adapters) {
            auto * ab = ggml_mul_mat(g.ctx.get(), p.a[k], cur);
            ab = ggml_mul(g.ctx.get(), ab, g.mask("mask" + std::to_string(k), { k }, g.all));
            res = ggml_add(g.ctx.get(), res, ggml_mul_mat(g.ctx.get(), p.b[k], ab));
        }
        return res;
    } },
    { "gather", [](graph & g, const projection & p, ggml_tensor * cur, ggml_tensor * res) {
        for (const int k : g.adapters) {
            auto * rows = g.input("rows" + std::to_string(k), g.mine[k], (int64_t) g.mine[k].size());
            auto * ab = ggml_mul_mat(g.ctx.get(), p.a[k], g.gather(cur, rows));
            ab = ggml_mul(g.ctx.get(), ab, g.mask("scale" + std::to_string(k), { k }, g.mine[k]));
            res = g.put(res, ggml_mul_mat(g.ctx.get(), p.b[k], ab), rows);
        }
        return res;
    } },
    { "slots", [](graph & g, const projection & p, ggml_tensor * cur, ggml_tensor * res) {
        auto * ids = g.input("slots", g.slots, 1);
        auto * ab = ggml_mul_mat_id(g.ctx.get(), p.a_stack, ggml_reshape_3d(g.ctx.get(), cur, cur->ne[0], 1, cur->ne[1]), ids);
        ab = ggml_mul(g.ctx.get(), ab, ggml_reshape_3d(g.ctx.get(), g.input("scales", std::vector<float>(RANK*g.of.n_rows, 1.0f), RANK), RANK, 1, g.of.n_rows));
        ab = ggml_mul_mat_id(g.ctx.get(), p.b_stack, ab, ids);
        return ggml_add(g.ctx.get(), res, ggml_reshape_2d(g.ctx.get(), ab, res->ne[0], res->ne[1]));
    } },
    { "concat", [](graph & g, const projection & p, ggml_tensor * cur, ggml_tensor * res) {
        auto * ab = ggml_mul(g.ctx.get(), ggml_mul_mat(g.ctx.get(), p.a_cat, cur), g.mask("mask", g.adapters, g.all));
        return ggml_add(g.ctx.get(), res, ggml_mul_mat(g.ctx.get(), p.b_cat, ab));
    } },
    { "both", [](graph & g, const projection & p, ggml_tensor * cur, ggml_tensor * res) {
        auto * rows = g.input("rows", g.active, g.of.n_active);
        auto * ab = ggml_mul_mat(g.ctx.get(), p.a_cat, g.gather(cur, rows));
        ab = ggml_mul(g.ctx.get(), ab, g.mask("scale", g.adapters, g.active));
        return g.put(res, ggml_mul_mat(g.ctx.get(), p.b_cat, ab), rows);
    } },
};

static double median(std::vector<double> v) {
    std::sort(v.begin(), v.end());
    return v[v.size()/2];
}

int main(int argc, char ** argv) {
    const char * name = argc > 1 ? argv[1] : "CPU";
    ggml_backend_load_all();
    ggml_backend_ptr backend(ggml_backend_init_by_name(name, nullptr));
    if (!backend) {
        fprintf(stderr, "device-ways: error: %s: expected a backend's name, got none; there are", name);
        for (size_t i = 0; i < ggml_backend_dev_count(); ++i) {
            fprintf(stderr, " %s", ggml_backend_dev_name(ggml_backend_dev_get(i)));
        }
        fprintf(stderr, "\n");
        return 1;
    }
    if (ggml_backend_is_cpu(backend.get())) {
        ggml_backend_cpu_set_n_threads(backend.get(), 1);
    }

    printf("Backend %s. For each way: milliseconds a layer beside the base's products, launches a layer, MB of the graph.\n\n", name);
    printf("| model | ubatch | adapters | base ms |");
    for (const auto & [way, _] : WAYS) {
        if (std::string(way) != "base") {
            printf(" %s |", way);
        }
    }
    printf("\n|---|---|---|---|---|---|---|---|---|\n");
    for (const auto & shape : SHAPES) {
        weights w(shape, 32, backend.get());
        for (const auto & of : BATCHES) {
            std::vector<std::unique_ptr<graph>> graphs;
            for (const auto & [_, build] : WAYS) {
                auto g = std::make_unique<graph>(of, shape);
                for (auto & layer : w.layers) {
                    for (auto p : layer) { // the first n_adapters of its concatenations
                        p.a_cat = ggml_view_2d(g->ctx.get(), p.a_cat, p.a_cat->ne[0], RANK*of.n_adapters, p.a_cat->nb[1], 0);
                        p.b_cat = ggml_view_2d(g->ctx.get(), p.b_cat, RANK*of.n_adapters, p.b_cat->ne[1], p.b_cat->nb[1], 0);
                        g->results.push_back(build(*g, p, g->x[p.x], ggml_mul_mat(g->ctx.get(), p.w, g->x[p.x])));
                    }
                    g->gathered.clear(); // another layer has other inputs
                }
                if (!g->finish(backend.get())) {
                    return 1;
                }
                graphs.push_back(std::move(g));
            }
            std::vector<std::vector<double>> ms(graphs.size());
            const auto began = std::chrono::steady_clock::now();
            for (int n = 0; n < 16 && (n < 4 || std::chrono::steady_clock::now() - began < std::chrono::seconds(1)); ++n) {
                for (size_t i = 0; i < graphs.size(); ++i) {
                    const double t = graphs[i]->ms(backend.get());
                    if (n > 0) {
                        ms[i].push_back(t);
                    }
                }
            }
            const double base = median(ms[0]);
            const auto want = graphs[1]->last();
            printf("| %s | %s | %d | %.3f |", shape.name, of.name, of.n_adapters, base/shape.n_layer);
            for (size_t i = 1; i < graphs.size(); ++i) {
                const auto got = graphs[i]->last();
                double error = 0, norm = 0;
                for (size_t j = 0; j < got.size(); ++j) {
                    error += (got[j] - want[j])*(got[j] - want[j]);
                    norm += want[j]*want[j];
                }
                if (!(error <= 1e-5*norm)) {
                    fprintf(stderr, "device-ways: error: %s: expected the loop's results, got a relative error of %g\n", WAYS[i].first, sqrt(error/norm));
                    return 1;
                }
                const double mb = ggml_gallocr_get_buffer_size(graphs[i]->alloc.get(), 0)/1e6;
                printf(" %.3f, %d, %.1f |", (median(ms[i]) - base)/shape.n_layer,
                        (graphs[i]->n_launched() - graphs[0]->n_launched())/shape.n_layer, mb);
            }
            printf("\n");
            fflush(stdout);
        }
    }
}
