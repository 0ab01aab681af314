// Compiled once for each instruction set (native.cmake): -DALORA_ATTENTION_NAME is the name of the pointer to it.

#include "alora-attention-kernel.h"
#include "alora-lanes.h"

#ifdef ALORA_VECTORS

namespace {

// The exponential of what is at most 0, within 2e-7: 2^n * exp(r) with n = round(x/ln 2), and Taylor's
// series of exp(r), |r| <= ln(2)/2. ln 2 is in two parts, so that n*ln 2 is subtracted exactly.
template <typename V, typename U> inline V exponential(V x) {
    const auto all = [](float v) { return v - V {}; };
    const float round = 0x1.8p23f; // added, it leaves the nearest integer in the lowest bits
    const V shifted = fused(0x1.715476p0f, x, all(round));
    const V n = shifted - round;
    const V r = fused(-0x1.0bfbe8p-15f, n, fused(-0x1.62ep-1f, n, x));
    V series = all(0x1.6c16c2p-10f);
    for (const float c : { 0x1.111112p-7f, 0x1.555556p-5f, 0x1.555556p-3f, 0x1p-1f, 1.0f, 1.0f }) {
        series = fused(r, series, all(c));
    }
    const V res = series * (V) (((U) shifted + 127u) << 23);
    return x > -87.0f ? res : V {};
}

template <typename V, typename U> inline V capped(V x, float cap) {
    const V e = exponential<V, U>((V) ((U) x | 0x80000000u) * 2.0f); // of -2|x|
    const V t = (1.0f - e)/(1.0f + e);
    return (V) ((U) t | ((U) x & 0x80000000u)) * cap;
}

//
// many queries, a lane each
//

#if LANES_MAX >= 16
constexpr int N_ROWS = 8; // that a block of the products has; with three vectors they fill the registers
#else
constexpr int N_ROWS = 4;
#endif

template <int L, int C> struct rows { typename lanes<L>::f32 of[N_ROWS][C]; };

// A value of `a` is used for all lanes, so neither factor has to be transposed:
//   c[r][lane] += sum_i a[r*a_row + i*a_i] * b[i][lane], for N_ROWS rows and C vectors of lanes, i from `first` in steps
template <int L, int C>
inline void multiply(rows<L, C> & c, const float * a, int64_t a_row, int64_t a_i, int64_t first, int64_t n, int64_t step, const float * b, int64_t n_lanes) {
    typedef typename lanes<L>::f32 V;
    for (int64_t i = first; i < n; i += step) {
        V x[C];
        UNROLL for (int j = 0; j < C; ++j) {
            x[j] = load<V>(b + i*n_lanes + j*L);
        }
        UNROLL for (int r = 0; r < N_ROWS; ++r) {
            const float w = a[r*a_row + i*a_i];
            UNROLL for (int j = 0; j < C; ++j) {
                c.of[r][j] = fused(w, x[j], c.of[r][j]);
            }
        }
    }
}

// A score is eight sums, of every eighth value, added up as sums() does: with few queries the eight are the
// lanes of a vector.
template <int L, int C, int step = 1>
inline void add_up(rows<L, C> & res, const float * k, int64_t dk, const float * q, int64_t n_lanes, int64_t first = 0) {
    if constexpr (step == 8) {
        res = {};
        multiply<L, C>(res, k, dk, 1, first, dk, 8, q, n_lanes);
    } else {
        rows<L, C> other;
        add_up<L, C, 2*step>(other, k, dk, q, n_lanes, first);
        add_up<L, C, 2*step>(res,   k, dk, q, n_lanes, first + step);
        UNROLL for (int r = 0; r < N_ROWS; ++r) {
            UNROLL for (int j = 0; j < C; ++j) {
                res.of[r][j] = other.of[r][j] + res.of[r][j];
            }
        }
    }
}

template <int L, int C>
inline void load_rows(rows<L, C> & res, const float * from, int64_t n_lanes) {
    UNROLL for (int r = 0; r < N_ROWS; ++r) {
        UNROLL for (int j = 0; j < C; ++j) {
            res.of[r][j] = load<typename lanes<L>::f32>(from + r*n_lanes + j*L);
        }
    }
}
template <int L, int C>
inline void store_rows(const rows<L, C> & res, float * to, int64_t n_lanes) {
    UNROLL for (int r = 0; r < N_ROWS; ++r) {
        UNROLL for (int j = 0; j < C; ++j) {
            store(to + r*n_lanes + j*L, res.of[r][j]);
        }
    }
}

// f with a number of vectors and the first lane of them, until all lanes had their turn
template <int L, typename F> inline void for_vectors(int64_t n_lanes, F && f) {
    int64_t lane = 0;
    for (; lane + 3*L <= n_lanes; lane += 3*L) {
        f(std::integral_constant<int, 3>(), lane);
    }
    for (; lane < n_lanes; lane += L) {
        f(std::integral_constant<int, 1>(), lane);
    }
}

template <int L> inline void scores_of_many(const alora_attention_args & p, const float * k, float * scores) {
    for (int64_t i = 0; i < p.n_cells; i += N_ROWS) {
        for_vectors<L>(p.n_lanes, [&](auto n, int64_t lane) {
            rows<L, n> res;
            add_up<L, n>(res, k + i*p.dk, p.dk, p.q + lane, p.n_lanes);
            store_rows<L, n>(res, scores + i*p.n_lanes + lane, p.n_lanes);
        });
    }
}

template <int L> inline void values_of_many(const alora_attention_args & p, const float * v, const float * scores) {
    for (int64_t d = 0; d < p.dv; d += N_ROWS) {
        for_vectors<L>(p.n_lanes, [&](auto n, int64_t lane) {
            rows<L, n> res;
            load_rows<L, n>(res, p.acc + d*p.n_lanes + lane, p.n_lanes);
            multiply<L, n>(res, v + d, 1, p.dv, 0, p.n_cells, 1, scores + lane, p.n_lanes);
            store_rows<L, n>(res, p.acc + d*p.n_lanes + lane, p.n_lanes);
        });
    }
}

template <int L> inline void softmax_of_many(const alora_attention_args & p, float * scores) {
    typedef typename lanes<L>::f32 V;
    typedef typename lanes<L>::u32 U;
    for (int64_t lane = 0; lane < p.n_lanes; lane += L) {
        const V before = load<V>(p.max + lane);
        V max = before;
        for (int64_t i = 0; i < p.n_cells; ++i) {
            V s = load<V>(scores + i*p.n_lanes + lane);
            if (p.cap != 0.0f) {
                s = capped<V, U>(s, p.cap);
                store(scores + i*p.n_lanes + lane, s);
            }
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
template <typename Row> inline void widen(const alora_attention_args & p, const char * from, size_t nb, int64_t n, float * to) {
    constexpr int L = LANES_MAX < 8 ? LANES_MAX : 8;
    for (int64_t i = 0; i < p.n_cells; ++i) {
        const char * row = from + p.cells[i]*nb;
        for (int64_t k = 0; k < n; k += L) {
            store(to + i*n + k, Row::template at<L>(row, k));
        }
    }
}

template <int L, typename Row> inline void run_many(const alora_attention_args & p) {
    float * widened = p.scratch;
    float * scores  = widened + ALORA_N_CELLS*(p.dk > p.dv ? p.dk : p.dv);
    widen<Row>(p, p.k, p.nb_k, p.dk, widened);
    scores_of_many<L>(p, widened, scores);
    softmax_of_many<L>(p, scores);
    widen<Row>(p, p.v, p.nb_v, p.dv, widened);
    values_of_many<L>(p, widened, scores);
}

//
// N queries, which do not fill a vector: its lanes are values of a row
//

constexpr int W = LANES_MAX < 8 ? LANES_MAX : 8;
constexpr int H = 8/W; // vectors of eight sums

template <int N, typename Row> inline void scores_of_few(const alora_attention_args & p, float * scores) {
    typedef lanes<W>::f32 V;
    constexpr int R = 8/N; // cells at once, whose sums fill the registers
    for (int64_t i = 0; i < p.n_cells; i += R) {
        const char * cells[R];
        UNROLL for (int r = 0; r < R; ++r) {
            const int64_t cell = p.cells[i + r < p.n_cells ? i + r : p.n_cells - 1];
            cells[r] = p.k + cell*p.nb_k;
            for (int64_t d = 0; d < p.dv; d += 64/Row::bytes) { // which are read next
                __builtin_prefetch(p.v + cell*p.nb_v + d*Row::bytes);
            }
            for (int64_t d = 0; d < p.dk; d += 64/Row::bytes) { // and those of the next head
                __builtin_prefetch(cells[r] + (p.dk + d)*Row::bytes, 0, 2);
            }
        }
        V acc[N][R][H] = {};
        for (int64_t d = 0; d < p.dk; d += 8) {
            UNROLL for (int h = 0; h < H; ++h) {
                V x[N];
                UNROLL for (int t = 0; t < N; ++t) {
                    x[t] = load<V>(p.q + t*p.dk + d + h*W);
                }
                UNROLL for (int r = 0; r < R; ++r) {
                    const V w = Row::template at<W>(cells[r], d + h*W);
                    UNROLL for (int t = 0; t < N; ++t) {
                        acc[t][r][h] = fused(w, x[t], acc[t][r][h]);
                    }
                }
            }
        }
        V eight[8];
        UNROLL for (int t = 0; t < N; ++t) {
            UNROLL for (int r = 0; r < R; ++r) {
                eight[t*R + r] = H == 1 ? acc[t][r][0] : acc[t][r][0] + acc[t][r][H - 1];
            }
        }
        float res[8]; // [N][R]
        UNROLL for (int h = 0; h < H; ++h) {
            store(res + h*W, sums<W>(eight + h*W));
        }
        UNROLL for (int t = 0; t < N; ++t) {
            memcpy(scores + t*ALORA_N_CELLS + i, res + t*R, R*sizeof(float));
        }
    }
}

template <int N> inline void softmax_of_few(const alora_attention_args & p, float * scores, float (&less)[N]) {
    typedef lanes<W>::f32 V;
    typedef lanes<W>::u32 U;
    for (int t = 0; t < N; ++t) {
        float * s = scores + t*ALORA_N_CELLS;
        for (int64_t i = 0; p.cap != 0.0f && i < p.n_cells; i += W) {
            store(s + i, capped<V, U>(load<V>(s + i), p.cap));
        }
        for (int64_t i = p.n_cells; i % W; ++i) {
            s[i] = ALORA_SCORE_MASKED;
        }
        V max = p.max[t] - V {};
        for (int64_t i = 0; i < p.n_cells; i += W) {
            V v = load<V>(s + i);
            if (p.mask) {
                v += load<V>(p.mask + t*ALORA_N_CELLS + i);
                store(s + i, v);
            }
            max = v > max ? v : max;
        }
        for (int i = 1; i < W; ++i) {
            max[0] = max[i] > max[0] ? max[i] : max[0];
        }
        less[t] = exponential<V, U>((p.max[t] - max[0]) - V {})[0];
        for (int64_t i = 0; i < p.n_cells; i += W) {
            store(s + i, exponential<V, U>(load<V>(s + i) - max[0]));
        }
        p.max[t]  = max[0];
        p.sum[t] *= less[t];
    }
    for (int64_t i = 0; i < p.n_cells; ++i) { // in order, as all lanes add them up
        for (int t = 0; t < N; ++t) {
            p.sum[t] += scores[t*ALORA_N_CELLS + i];
        }
    }
}

// D vectors of values from d on
template <int N, int D, typename Row>
inline void values_of_few(const alora_attention_args & p, int64_t d, const float * scores, const float (&less)[N]) {
    typedef lanes<W>::f32 V;
    V acc[N][D];
    UNROLL for (int t = 0; t < N; ++t) {
        UNROLL for (int j = 0; j < D; ++j) {
            acc[t][j] = load<V>(p.acc + t*p.dv + d + j*W) * less[t];
        }
    }
    for (int64_t i = 0; i < p.n_cells; ++i) {
        const char * row = p.v + p.cells[i]*p.nb_v;
        UNROLL for (int j = 0; j < D; ++j) {
            const V v = Row::template at<W>(row, d + j*W);
            UNROLL for (int t = 0; t < N; ++t) {
                acc[t][j] = fused(scores[t*ALORA_N_CELLS + i], v, acc[t][j]);
            }
        }
    }
    UNROLL for (int t = 0; t < N; ++t) {
        UNROLL for (int j = 0; j < D; ++j) {
            store(p.acc + t*p.dv + d + j*W, acc[t][j]);
        }
    }
}

template <int N, typename Row> inline void run_few(const alora_attention_args & p) {
    float * scores = p.scratch; // [N][ALORA_N_CELLS]
    float less[N];
    scores_of_few<N, Row>(p, scores);
    softmax_of_few<N>(p, scores, less);
    constexpr int D = 8/N; // eight sums at once, or the processor waits for each of them
    int64_t d = 0;
    for (; d + D*W <= p.dv; d += D*W) {
        values_of_few<N, D, Row>(p, d, scores, less);
    }
    for (; d < p.dv; d += W) {
        values_of_few<N, 1, Row>(p, d, scores, less);
    }
}

template <typename Row> inline void run(const alora_attention_args & p) {
    switch (p.n_lanes) {
        case 1: return run_few<1, Row>(p);
        case 2: return run_few<2, Row>(p);
        case 4: return run_few<4, Row>(p);
    }
#if LANES_MAX >= 16
    if (p.n_lanes % 16 == 0) {
        return run_many<16, Row>(p);
    }
#endif
#if LANES_MAX >= 8
    run_many<8, Row>(p);
#else
    run_many<4, Row>(p);
#endif
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
