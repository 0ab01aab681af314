// Compares the kernels, compiled as alora_kernel_checked and alora_attention_checked, with sums in double; prints the largest
// relative errors of each type: of rows by one token and by more, of attention.

#include "alora-attention-kernel.h"
#include "alora-kernel.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
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
    double error = 0.0, norm = 0.0;
    for (int64_t t = 0; t < n_x; ++t) {
        for (int64_t i = 0; i < n_rows; ++i) {
            double sum = 0.0;
            for (int64_t k = 0; k < n; ++k) {
                sum += m[i][k]/64.0*x[t][k];
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
    return sqrt(error/norm);
}

static int value(int64_t i, int64_t k) { return (int) ((i*7919 + k*104729 + k*k*31) % 255) - 127; }

// Queries by all cells but every fifth, in two calls, the first of which a query in three sees nothing of.
static double check_attention(ggml_type type, int64_t dk, int64_t dv, int64_t n_cells, int64_t n_lanes) {
    std::vector<char> k, v;
    std::vector<int32_t> cells;
    for (int64_t i = 0; i < n_cells; ++i) {
        std::vector<int> mk(dk), mv(dv);
        for (int64_t d = 0; d < dk; ++d) { mk[d] = value(i, d); }
        for (int64_t d = 0; d < dv; ++d) { mv[d] = value(i + 1000, d); }
        const auto rk = row(type, mk), rv = row(type, mv);
        k.insert(k.end(), rk.begin(), rk.end());
        v.insert(v.end(), rv.begin(), rv.end());
        if (i % 5 != 2) {
            cells.push_back(i);
        }
    }
    const int64_t n_first = std::min<int64_t>(cells.size()/3, ALORA_N_CELLS);
    const auto is_masked = [&](int64_t c, int64_t lane) { return c < n_first && lane % 3 == 1; };
    std::vector<float> q(dk*n_lanes), mask(ALORA_N_CELLS*n_lanes), max(n_lanes, ALORA_SCORE_MIN), sum(n_lanes), acc(dv*n_lanes);
    std::vector<float> scratch(alora_attention_scratch(dk, dv, n_lanes));
    for (int64_t d = 0; d < dk; ++d) {
        for (int64_t lane = 0; lane < n_lanes; ++lane) {
            q[d*n_lanes + lane] = 2.0f*sinf(0.7f*d + lane)/sqrtf(dk);
        }
    }
    for (int64_t c = 0; c < n_first; ++c) {
        for (int64_t lane = 0; lane < n_lanes; ++lane) {
            mask[c*n_lanes + lane] = is_masked(c, lane) ? ALORA_SCORE_MASKED : 0.0f;
        }
    }
    for (int64_t c = 0; c < (int64_t) cells.size();) {
        const int64_t n = c == 0 ? n_first : std::min<int64_t>(ALORA_N_CELLS, cells.size() - c);
        alora_attention_checked({ type, k.data(), v.data(), k.size()/n_cells, v.size()/n_cells, dk, dv, &cells[c], n,
            q.data(), c == 0 ? mask.data() : nullptr, n_lanes, max.data(), sum.data(), acc.data(), scratch.data() });
        c += n;
    }
    double error = 0.0, norm = 0.0;
    for (int64_t lane = 0; lane < n_lanes; ++lane) {
        double total = 0.0;
        std::vector<double> want(dv);
        for (size_t c = 0; c < cells.size(); ++c) {
            double score = 0.0;
            for (int64_t d = 0; d < dk; ++d) {
                score += value(cells[c], d)/64.0*q[d*n_lanes + lane];
            }
            const double e = is_masked(c, lane) ? 0.0 : exp(score);
            total += e;
            for (int64_t d = 0; d < dv; ++d) {
                want[d] += e*value(cells[c] + 1000, d)/64.0;
            }
        }
        for (int64_t d = 0; d < dv; ++d) {
            const double diff = acc[d*n_lanes + lane]/sum[lane] - want[d]/total;
            error += diff*diff;
            norm  += want[d]*want[d]/(total*total);
        }
    }
    return sqrt(error/norm);
}

int main() {
    for (const auto & [type, name] : { std::pair(GGML_TYPE_F32, "F32"), std::pair(GGML_TYPE_F16, "F16"), std::pair(GGML_TYPE_BF16, "BF16"), std::pair(GGML_TYPE_Q8_0, "Q8_0") }) {
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
                for (const int64_t n_lanes : { 4, 8, 16, 48, 64 }) {
                    attention = std::fmax(attention, check_attention(type, dk, dv, n_cells, n_lanes));
                }
            }
        }
        printf("%s %g %g %g\n", name, one, more, attention);
    }
}
