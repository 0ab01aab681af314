// Compiled once for each instruction set (native.cmake): -DALORA_ATTENTION_NAME is the name of the pointer to it.

#include "alora-attention-kernel.h"
#include "alora-lanes.h"

#ifdef ALORA_VECTORS

namespace {

#if LANES_MAX >= 16
constexpr int N_ROWS = 8; // that a block of the products has; with three vectors they fill the registers
#else
constexpr int N_ROWS = 4;
#endif

// A value of `a` is used for all lanes, so neither factor has to be transposed:
//   c[r][lane] (+)= sum_i a[r*a_row + i*a_i] * b[i][lane], for N_ROWS rows and C vectors of lanes
template <int L, int C, bool adds>
inline void block(const float * a, int64_t a_row, int64_t a_i, int64_t n, const float * b, float * c, int64_t n_lanes) {
    typedef typename lanes<L>::f32 V;
    V acc[N_ROWS][C];
    UNROLL for (int r = 0; r < N_ROWS; ++r) {
        UNROLL for (int j = 0; j < C; ++j) {
            acc[r][j] = adds ? load<V>(c + r*n_lanes + j*L) : V {};
        }
    }
    for (int64_t i = 0; i < n; ++i) {
        V x[C];
        UNROLL for (int j = 0; j < C; ++j) {
            x[j] = load<V>(b + i*n_lanes + j*L);
        }
        UNROLL for (int r = 0; r < N_ROWS; ++r) {
            const float w = a[r*a_row + i*a_i];
            UNROLL for (int j = 0; j < C; ++j) {
                acc[r][j] += w * x[j];
            }
        }
    }
    UNROLL for (int r = 0; r < N_ROWS; ++r) {
        UNROLL for (int j = 0; j < C; ++j) {
            memcpy(c + r*n_lanes + j*L, &acc[r][j], sizeof(V));
        }
    }
}

// all of the rows, a multiple of N_ROWS
template <int L, bool adds>
inline void product(const float * a, int64_t a_row, int64_t a_i, int64_t n_rows, int64_t n, const float * b, float * c, int64_t n_lanes) {
    for (int64_t r = 0; r < n_rows; r += N_ROWS) {
        const float * from = a + r*a_row;
        float       * to   = c + r*n_lanes;
        int64_t lane = 0;
        for (; lane + 3*L <= n_lanes; lane += 3*L) {
            block<L, 3, adds>(from, a_row, a_i, n, b + lane, to + lane, n_lanes);
        }
        for (; lane < n_lanes; lane += L) {
            block<L, 1, adds>(from, a_row, a_i, n, b + lane, to + lane, n_lanes);
        }
    }
}

// The exponential of what is at most 0, within 2e-7: 2^n * exp(r) with n = round(x/ln 2), and Taylor's
// series of exp(r), |r| <= ln(2)/2. ln 2 is in two parts, so that n*ln 2 is subtracted exactly.
template <typename V, typename U> inline V exponential(V x) {
    const float round = 0x1.8p23f; // added, it leaves the nearest integer in the lowest bits
    const V shifted = x*0x1.715476p0f + round;
    const V n = shifted - round;
    const V r = x - n*0x1.62ep-1f - n*0x1.0bfbe8p-15f;
    const V series = 1.0f + r*(1.0f + r*(0x1p-1f + r*(0x1.555556p-3f + r*(0x1.555556p-5f + r*(0x1.111112p-7f + r*0x1.6c16c2p-10f)))));
    const V res = series * (V) (((U) shifted + 127u) << 23);
    return x > -87.0f ? res : V {};
}

template <int L> inline void softmax(const alora_attention_args & p, float * scores) {
    typedef typename lanes<L>::f32 V;
    typedef typename lanes<L>::u32 U;
    const auto store = [](float * to, V v) { memcpy(to, &v, sizeof(v)); };
    for (int64_t lane = 0; lane < p.n_lanes; lane += L) {
        const V before = load<V>(p.max + lane);
        V max = before;
        for (int64_t i = 0; i < p.n_cells; ++i) {
            V s = load<V>(scores + i*p.n_lanes + lane);
            if (p.mask) {
                s += load<V>(p.mask + i*p.n_lanes + lane);
                store(scores + i*p.n_lanes + lane, s);
            }
            max = s > max ? s : max;
        }
        const V less = exponential<V, U>(before - max);
        V sum = load<V>(p.sum + lane) * less;
        for (int64_t i = 0; i < p.n_cells; ++i) {
            const V e = exponential<V, U>(load<V>(scores + i*p.n_lanes + lane) - max);
            store(scores + i*p.n_lanes + lane, e);
            sum += e;
        }
        for (int64_t d = 0; d < p.dv; ++d) {
            store(p.acc + d*p.n_lanes + lane, load<V>(p.acc + d*p.n_lanes + lane) * less);
        }
        store(p.max + lane, max);
        store(p.sum + lane, sum);
    }
}

// the cells' rows as F32
template <typename Row> inline void widen(const alora_attention_args & p, const char * rows, size_t nb, int64_t n, float * to) {
    constexpr int L = LANES_MAX < 8 ? LANES_MAX : 8;
    for (int64_t i = 0; i < p.n_cells; ++i) {
        const char * row = rows + p.cells[i]*nb;
        for (int64_t k = 0; k < n; k += L) {
            const auto w = Row::template at<L>(row, k);
            memcpy(to + i*n + k, &w, sizeof(w));
        }
    }
}

template <int L, typename Row> inline void run(const alora_attention_args & p) {
    float * rows   = p.scratch;
    float * scores = rows + ALORA_N_CELLS*(p.dk > p.dv ? p.dk : p.dv);
    widen<Row>(p, p.k, p.nb_k, p.dk, rows);
    product<L, false>(rows, p.dk, 1, (p.n_cells + N_ROWS - 1)/N_ROWS*N_ROWS, p.dk, p.q, scores, p.n_lanes);
    softmax<L>(p, scores);
    widen<Row>(p, p.v, p.nb_v, p.dv, rows);
    product<L, true>(rows, 1, p.dv, p.dv, p.n_cells, scores, p.acc, p.n_lanes);
}

template <typename Row> inline void run(const alora_attention_args & p) {
#if LANES_MAX >= 16
    if (p.n_lanes % 16 == 0) {
        return run<16, Row>(p);
    }
#endif
#if LANES_MAX >= 8
    if (p.n_lanes % 8 == 0) {
        return run<8, Row>(p);
    }
#endif
    run<4, Row>(p);
}

void attention(const alora_attention_args & args) {
    switch (args.type) {
        case GGML_TYPE_F32:  return run<row_f32> (args);
        case GGML_TYPE_F16:  return run<row_f16> (args);
        case GGML_TYPE_BF16: return run<row_bf16>(args);
        default:             return run<row_q8_0>(args);
    }
}

} // namespace

extern const alora_attention_kernel ALORA_ATTENTION_NAME = attention;

#else

extern const alora_attention_kernel ALORA_ATTENTION_NAME = nullptr;

#endif
