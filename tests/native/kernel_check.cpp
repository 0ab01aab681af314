// Compares the kernels, compiled as alora_kernel_checked and alora_attention_checked, with sums in double; prints of each type
// the largest relative errors, of rows by one token and by more, of attention, and how many tokens and queries get other bits
// where they are beside others than they get alone.
// With an argument, the time instead: of each type milliseconds, of long rows by one token and by 64, of short ones by 64, of
// attention of one query and of 48.

#include "alora-attention-kernel.h"
#include "alora-kernel.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <numeric>
#include <vector>

void alora_kernel_checked(const alora_kernel_args & args, int64_t i0, int64_t i1);
extern const alora_attention_kernel alora_attention_checked;

static uint32_t bits(float v) {
    uint32_t res;
    memcpy(&res, &v, sizeof(res));
    return res;
}

static uint16_t f16(float v) { // exactly, of what needs no rounding
    const uint32_t b = bits(v);
    return v == 0.0f ? 0 : (b >> 16 & 0x8000) | ((b >> 23 & 0xff) - 112) << 10 | (b >> 13 & 0x3ff);
}

// the values m/64 in each type, all of them exact
static std::vector<char> row(ggml_type type, const std::vector<int> & m) {
    std::vector<char> res;
    const auto put = [&](const void * p, size_t n) { res.insert(res.end(), (const char *) p, (const char *) p + n); };
    for (size_t k = 0; k < m.size(); ++k) {
        const float v = m[k]/64.0f;
        const uint16_t half = type == GGML_TYPE_F16 ? f16(v) : bits(v) >> 16, d = f16(1/64.0f);
        if (type == GGML_TYPE_Q8_0) {
            if (k % 32 == 0) {
                put(&d, 2);
            }
            const int8_t q = m[k];
            put(&q, 1);
        } else if (type == GGML_TYPE_F32) {
            put(&v, 4);
        } else {
            put(&half, 2);
        }
    }
    return res;
}

// A token in 8 bits: a block of 32 values has the largest of them as 127.
static std::vector<double> rounded(const std::vector<float> & x) {
    std::vector<double> res(x.size());
    for (size_t b = 0; b < x.size(); b += 32) {
        float max = 0.0f;
        for (size_t k = b; k < b + 32; ++k) { max = std::fmax(max, std::fabs(x[k])); }
        for (size_t k = b; k < b + 32; ++k) { res[k] = max > 0.0f ? (double) std::nearbyint(x[k]*(127.0f/max))*(max/127.0f) : 0.0; }
    }
    return res;
}

static double check(ggml_type type, int64_t n, int64_t n_rows, int64_t n_x, bool has_gain) {
    std::vector<char> w;
    std::vector<std::vector<int>> m(n_rows, std::vector<int>(n));
    for (int64_t i = 0; i < n_rows; ++i) {
        for (int64_t k = 0; k < n; ++k) {
            m[i][k] = (int) ((i*7919 + k*104729 + k*k*31) % 255) - 127;
        }
        const auto r = row(type, m[i]);
        w.insert(w.end(), r.begin(), r.end());
    }
    std::vector<std::vector<float>> x(n_x, std::vector<float>(n)), y(n_x, std::vector<float>(n_rows, 0.5f));
    std::vector<const float *> px;
    std::vector<float *> py;
    std::vector<float> scale, gain;
    for (int64_t t = 0; t < n_x; ++t) {
        for (int64_t k = 0; k < n; ++k) {
            x[t][k] = sinf(0.7f*k + t);
        }
        px.push_back(x[t].data());
        py.push_back(y[t].data());
        scale.push_back(0.25f + t);
    }
    for (int64_t i = 0; i < n_rows; ++i) {
        gain.push_back(1.0f + 0.1f*(i % 5));
    }
    const size_t nb = w.size()/n_rows;
    const int64_t i0 = 4; // the rows before and behind stay as they are
    alora_kernel_checked({ type, w.data(), nb, n, has_gain ? gain.data() : nullptr, px.data(), py.data(), scale.data(), n_x, nullptr }, i0, n_rows - 1);
    // rows in 8 bits may be multiplied by tokens in 8 bits, as the set of instructions has it: the sums are exactly these, or those of the tokens as they are
    double res = INFINITY;
    for (const bool is_rounded : { false, true }) {
        if (is_rounded && type != GGML_TYPE_Q8_0) {
            continue;
        }
        double error = 0.0, norm = 0.0;
        for (int64_t t = 0; t < n_x; ++t) {
            const auto xt = is_rounded ? rounded(x[t]) : std::vector<double>(x[t].begin(), x[t].end());
            for (int64_t i = 0; i < n_rows; ++i) {
                double sum = 0.0;
                for (int64_t k = 0; k < n; ++k) {
                    sum += m[i][k]/64.0*xt[k];
                }
                const bool in = i >= i0 && i < n_rows - 1;
                const double want = 0.5 + (in ? sum*scale[t]*(has_gain ? gain[i] : 1.0f) : 0.0);
                error += (y[t][i] - want)*(y[t][i] - want);
                norm  += want*want;
                if (!in && y[t][i] != 0.5f) {
                    return INFINITY;
                }
            }
        }
        res = std::fmin(res, sqrt(error/norm));
    }
    return res;
}

static int value(int64_t i, int64_t k) { return (int) ((i*7919 + k*104729 + k*k*31) % 255) - 127; }

// A call of the attention for `n` queries: their running softmax, and how their values lie.
struct queries {
    const int64_t n, dk, dv;
    const float   cap;
    const int64_t n_lanes = alora_attention_lanes(n);
    const bool    few     = n_lanes <= ALORA_N_FEW;

    std::vector<float> q = std::vector<float>(dk*n_lanes), mask = std::vector<float>(ALORA_N_CELLS*n_lanes);
    std::vector<float> max = std::vector<float>(n_lanes, ALORA_SCORE_MIN), sum = std::vector<float>(n_lanes), acc = std::vector<float>(dv*n_lanes);
    std::vector<float> scratch = std::vector<float>(alora_attention_scratch(dk, dv, n_lanes));

    queries(int64_t n, int64_t dk, int64_t dv, float cap = 0.0f) : n(n), dk(dk), dv(dv), cap(cap) {}

    int64_t at(int64_t lane, int64_t d, int64_t n_values) const { return few ? lane*n_values + d : d*n_lanes + lane; }

    // numbers: which query a lane has
    void set(const std::vector<int64_t> & numbers) {
        for (int64_t lane = 0; lane < n; ++lane) {
            for (int64_t d = 0; d < dk; ++d) {
                q[at(lane, d, dk)] = 2.0f*sinf(0.7f*d + numbers[lane])/sqrtf(dk);
            }
        }
    }

    // is_masked(index among the cells, lane)
    template <typename F> void add(ggml_type type, const std::vector<char> & k, const std::vector<char> & v, int64_t n_rows, const std::vector<int32_t> & cells, bool any_masked, F && is_masked) {
        for (int64_t c = 0; any_masked && c < ALORA_N_CELLS; ++c) {
            for (int64_t lane = 0; lane < n_lanes; ++lane) {
                const bool masked = c >= (int64_t) cells.size() || (lane < n && is_masked(c, lane));
                mask[at(lane, c, ALORA_N_CELLS)] = masked ? ALORA_SCORE_MASKED : 0.0f;
            }
        }
        alora_attention_checked({ type, k.data(), v.data(), k.size()/n_rows, v.size()/n_rows, dk, dv, cells.data(), (int64_t) cells.size(),
            q.data(), any_masked ? mask.data() : nullptr, n_lanes, max.data(), sum.data(), acc.data(), scratch.data(), cap });
    }
};

static void cache(ggml_type type, int64_t dk, int64_t dv, int64_t n_rows, std::vector<char> & k, std::vector<char> & v) {
    for (int64_t i = 0; i < n_rows; ++i) {
        std::vector<int> mk(dk), mv(dv);
        for (int64_t d = 0; d < dk; ++d) { mk[d] = value(i, d); }
        for (int64_t d = 0; d < dv; ++d) { mv[d] = value(i + 1000, d); }
        const auto rk = row(type, mk), rv = row(type, mv);
        k.insert(k.end(), rk.begin(), rk.end());
        v.insert(v.end(), rv.begin(), rv.end());
    }
}

// Queries by all cells but every fifth, of the first of which a query in three sees nothing.
static double check_attention(ggml_type type, int64_t dk, int64_t dv, int64_t n_rows, int64_t n_queries, float cap) {
    std::vector<char> k, v;
    cache(type, dk, dv, n_rows, k, v);
    std::vector<int32_t> cells;
    for (int64_t i = 0; i < n_rows; ++i) {
        if (i % 5 != 2) {
            cells.push_back(i);
        }
    }
    const int64_t n_first = std::min<int64_t>(cells.size()/3, ALORA_N_CELLS);
    const auto is_masked = [&](int64_t c, int64_t lane) { return c < n_first && lane % 3 == 1; };
    queries all(n_queries, dk, dv, cap);
    std::vector<int64_t> numbers(n_queries);
    std::iota(numbers.begin(), numbers.end(), 0);
    all.set(numbers);
    for (int64_t c = 0; c < (int64_t) cells.size();) {
        const int64_t n = c == 0 ? n_first : std::min<int64_t>(ALORA_N_CELLS, cells.size() - c);
        all.add(type, k, v, n_rows, std::vector<int32_t>(cells.begin() + c, cells.begin() + c + n), c == 0, is_masked);
        c += n;
    }
    double error = 0.0, norm = 0.0;
    for (int64_t lane = 0; lane < n_queries; ++lane) {
        double total = 0.0;
        std::vector<double> want(dv);
        for (size_t c = 0; c < cells.size(); ++c) {
            double score = 0.0;
            for (int64_t d = 0; d < dk; ++d) {
                score += value(cells[c], d)/64.0*all.q[all.at(lane, d, dk)];
            }
            const double e = is_masked(c, lane) ? 0.0 : exp(cap != 0.0f ? cap*tanh(score) : score);
            total += e;
            for (int64_t d = 0; d < dv; ++d) {
                want[d] += e*value(cells[c] + 1000, d)/64.0;
            }
        }
        for (int64_t d = 0; d < dv; ++d) {
            const double diff = all.acc[all.at(lane, d, dv)]/all.sum[lane] - want[d]/total;
            error += diff*diff;
            norm  += want[d]*want[d]/(total*total);
        }
    }
    return sqrt(error/norm);
}

// How many queries that see some of the cells get other bits beside others, which see others of them, than alone.
static int differing_queries(ggml_type type, int64_t dk, int64_t dv, int64_t n_queries, float cap) {
    const int64_t n_rows = 150;
    std::vector<char> k, v;
    cache(type, dk, dv, n_rows, k, v);
    const auto sees = [](int64_t cell, int64_t number) { return (cell*cell + 3*number) % 7 < 4; };
    std::vector<int64_t> numbers(n_queries);
    std::iota(numbers.begin(), numbers.end(), 5);
    queries all(n_queries, dk, dv, cap);
    all.set(numbers);
    for (int64_t c = 0; c < n_rows; c += ALORA_N_CELLS) {
        std::vector<int32_t> cells(std::min(ALORA_N_CELLS, n_rows - c));
        std::iota(cells.begin(), cells.end(), c);
        all.add(type, k, v, n_rows, cells, true, [&](int64_t i, int64_t lane) { return !sees(c + i, numbers[lane]); });
    }
    int res = 0;
    for (int64_t lane = 0; lane < n_queries; ++lane) {
        queries one(1, dk, dv, cap);
        one.set({ numbers[lane] });
        for (int64_t c = 0; c < n_rows; c += ALORA_N_CELLS) {
            std::vector<int32_t> cells;
            for (int64_t i = c; i < std::min(n_rows, c + ALORA_N_CELLS); ++i) {
                if (sees(i, numbers[lane])) {
                    cells.push_back(i);
                }
            }
            one.add(type, k, v, n_rows, cells, false, [](int64_t, int64_t) { return false; });
        }
        bool same = bits(one.max[0]) == bits(all.max[lane]) && bits(one.sum[0]) == bits(all.sum[lane]);
        for (int64_t d = 0; d < dv; ++d) {
            same = same && bits(one.acc[d]) == bits(all.acc[all.at(lane, d, dv)]);
        }
        res += !same;
    }
    return res;
}

struct product {
    const int64_t n, n_rows, n_x;
    std::vector<char> w;
    std::vector<std::vector<float>> x, y;
    std::vector<const float *> px;
    std::vector<float *> py;
    std::vector<float> scale;
    const ggml_type type;

    // tokens from the number `first` on
    product(ggml_type type, int64_t n, int64_t n_rows, int64_t n_x, int64_t first) : n(n), n_rows(n_rows), n_x(n_x), type(type) {
        for (int64_t i = 0; i < n_rows; ++i) {
            std::vector<int> m(n);
            for (int64_t k = 0; k < n; ++k) { m[k] = value(i, k); }
            const auto r = row(type, m);
            w.insert(w.end(), r.begin(), r.end());
        }
        x.assign(n_x, std::vector<float>(n));
        y.assign(n_x, std::vector<float>(n_rows, 0.5f));
        for (int64_t t = 0; t < n_x; ++t) {
            for (int64_t k = 0; k < n; ++k) {
                x[t][k] = sinf(0.7f*k + first + t);
            }
            px.push_back(x[t].data());
            py.push_back(y[t].data());
            scale.push_back(0.25f + first + t);
        }
    }

    void run() { alora_kernel_checked({ type, w.data(), w.size()/n_rows, n, nullptr, px.data(), py.data(), scale.data(), n_x, nullptr }, 0, n_rows); }
};

static int differing_tokens(ggml_type type, int64_t n, int64_t n_x) {
    product all(type, n, 37, n_x, 0);
    all.run();
    int res = 0;
    for (int64_t t = 0; t < n_x; ++t) {
        product one(type, n, 37, 1, t);
        one.run();
        res += memcmp(one.y[0].data(), all.y[t].data(), 37*sizeof(float)) != 0;
    }
    return res;
}

// the best of some
template <typename F> static double milliseconds(F && f) {
    double res = INFINITY;
    for (int i = 0; i < 25; ++i) {
        const auto begin = std::chrono::steady_clock::now();
        f();
        res = std::min(res, std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin).count());
    }
    return res;
}

static void print_times(ggml_type type, const char * name) {
    product one(type, 2048, 256, 1, 0), more(type, 2048, 256, 64, 0), up(type, 32, 2048, 64, 0);
    const int64_t n_rows = 1024, d = 64;
    std::vector<char> k, v;
    cache(type, d, d, n_rows, k, v);
    const auto attention = [&](int64_t n_queries) {
        queries all(n_queries, d, d);
        for (int64_t c = 0; c < n_rows; c += ALORA_N_CELLS) {
            std::vector<int32_t> cells(ALORA_N_CELLS);
            std::iota(cells.begin(), cells.end(), c);
            all.add(type, k, v, n_rows, cells, false, [](int64_t, int64_t) { return false; });
        }
    };
    printf("%s %g %g %g %g %g\n", name, milliseconds([&] { one.run(); }), milliseconds([&] { more.run(); }), milliseconds([&] { up.run(); }),
        milliseconds([&] { attention(1); }), milliseconds([&] { attention(48); }));
}

int main(int argc, char **) {
    for (const auto & [type, name] : { std::pair(GGML_TYPE_F32, "F32"), std::pair(GGML_TYPE_F16, "F16"), std::pair(GGML_TYPE_BF16, "BF16"), std::pair(GGML_TYPE_Q8_0, "Q8_0") }) {
        if (argc > 1) {
            print_times(type, name);
            continue;
        }
        double one = 0.0, more = 0.0; // tokens
        for (const int64_t n : { 4, 9, 32, 64, 100, 576, 2048 }) {
            for (const int64_t n_rows : { 6, 9, 37 }) {
                for (const int64_t n_x : { 1, 2, 7, 19 }) {
                    for (const bool has_gain : { false, true }) {
                        if (type != GGML_TYPE_Q8_0 || n % 32 == 0) {
                            auto & worst = n_x == 1 ? one : more;
                            worst = std::fmax(worst, check(type, n, n_rows, n_x, has_gain));
                        }
                    }
                }
            }
        }
        double attention = 0.0;
        for (const auto & [dk, dv] : { std::pair(32, 32), std::pair(64, 64), std::pair(96, 64), std::pair(128, 256) }) {
            for (const int64_t n_cells : { 6, 50, 200 }) {
                for (const int64_t n_queries : { 1, 2, 3, 4, 7, 8, 16, 45, 48, 64 }) {
                    for (const float cap : { 0.0f, 1.5f, 50.0f }) {
                        attention = std::fmax(attention, check_attention(type, dk, dv, n_cells, n_queries, cap));
                    }
                }
            }
        }
        int tokens = 0, queries = 0;
        for (const int64_t n : { 8, 32, 64, 96, 128, 576 }) {
            for (const int64_t n_x : { 2, 5, 16, 19, 70 }) {
                tokens += type != GGML_TYPE_Q8_0 || n % 32 == 0 ? differing_tokens(type, n, n_x) : 0;
            }
        }
        for (const auto & [dk, dv] : { std::pair(32, 32), std::pair(64, 64), std::pair(96, 64), std::pair(128, 256) }) {
            for (const int64_t n_queries : { 2, 3, 7, 16, 48 }) {
                queries += differing_queries(type, dk, dv, n_queries, 0.0f) + differing_queries(type, dk, dv, n_queries, 1.5f);
            }
        }
        printf("%s %g %g %g %d %d\n", name, one, more, attention, tokens, queries);
    }
}
