// Compiled once for each instruction set (native.cmake): -DALORA_KERNEL_NAME is the function's name.
// So a library for any x86-64 has the best kernel, also where ggml's own are in backends that are
// loaded at run time and cannot be linked to.

#include "alora-kernel.h"
#include "alora-lanes.h"

#ifdef ALORA_VECTORS

#if defined(__AVX512F__) || defined(__aarch64__)
#define TOKENS_MAX 4
#else
#define TOKENS_MAX 2
#endif

namespace {

// y[0, n) += v * gain[0, n)
template <int L> inline void add(float * y, typename lanes<L>::f32 v, const float * gain, int64_t n) {
    typedef typename lanes<L>::f32 V;
    if (n == L) {
        v = load<V>(y) + (gain ? v*load<V>(gain) : v);
        memcpy(y, &v, sizeof(v));
    } else {
        for (int64_t i = 0; i < n; ++i) {
            y[i] += gain ? v[i]*gain[i] : v[i];
        }
    }
}

// Where to fetch from while the rows from i on are multiplied: what will be read when 8 KiB more have
// been. The processor's own prefetching starts anew at each row and each page, and gets half of what
// memory has. nullptr if that is not known.
inline const char * ahead(const alora_kernel_args & p, int64_t i, int64_t i1) {
    const int64_t distance = 8192;
    const int64_t left = (i1 - i)*p.nb - distance; // of these rows
    if (left > 0) {
        return (const char *) p.w + i*p.nb + distance;
    }
    return p.next ? (const char *) p.next - left : nullptr;
}

// into the second level of cache
template <int n_lines> inline void fetch(const char * from) {
    UNROLL for (int i = 0; i < n_lines; ++i) {
        __builtin_prefetch(from + 64*i, 0, 2);
    }
}

// Four rows by T tokens: every value of a row is converted once and used T times.
template <int L, int T, typename Row>
inline void tile(const char * const (&rows)[4], int64_t n, const float * const * x, f32x4 (&res)[T], const char * ahead) {
    constexpr int n_lines = (4*L*Row::bytes + 63)/64;
    typedef typename lanes<L>::f32 V;
    V acc[T][4] = {};
    int64_t k = 0;
    for (; k + L <= n; k += L) {
        if (ahead) {
            fetch<n_lines>(ahead);
            ahead += 4*L*Row::bytes;
        }
        UNROLL for (int r = 0; r < 4; ++r) {
            const V w = Row::template at<L>(rows[r], k);
            UNROLL for (int t = 0; t < T; ++t) {
                acc[t][r] = fused(w, load<V>(x[t] + k), acc[t][r]);
            }
        }
    }
    UNROLL for (int t = 0; t < T; ++t) {
        const f32x4 folded[4] = { fold(acc[t][0]), fold(acc[t][1]), fold(acc[t][2]), fold(acc[t][3]) };
        res[t] = sums<4>(folded);
    }
    for (; k < n; ++k) {
        UNROLL for (int t = 0; t < T; ++t) {
            const float v = x[t][k];
            res[t] += f32x4 { Row::one(rows[0], k)*v, Row::one(rows[1], k)*v, Row::one(rows[2], k)*v, Row::one(rows[3], k)*v };
        }
    }
}

template <int L, typename Row>
inline void run_long(const alora_kernel_args & p, int64_t i0, int64_t i1) {
    for (int64_t i = i0; i < i1; i += 4) {
        const int64_t n_rows = i1 - i < 4 ? i1 - i : 4;
        const char * from = ahead(p, i, i1);
        const char * rows[4];
        UNROLL for (int r = 0; r < 4; ++r) {
            rows[r] = (const char *) p.w + (i + (r < n_rows ? r : n_rows - 1))*p.nb;
        }
        const float * gain = p.gain ? p.gain + i : nullptr;
        int64_t t = 0;
        for (; t + TOKENS_MAX <= p.n_x; t += TOKENS_MAX) {
            f32x4 res[TOKENS_MAX];
            tile<L, TOKENS_MAX, Row>(rows, p.n, p.x + t, res, t == 0 ? from : nullptr);
            UNROLL for (int j = 0; j < TOKENS_MAX; ++j) {
                add<4>(p.y[t + j] + i, res[j]*p.scale[t + j], gain, n_rows);
            }
        }
        for (; t < p.n_x; ++t) {
            f32x4 res[1];
            tile<L, 1, Row>(rows, p.n, p.x + t, res, t == 0 ? from : nullptr);
            add<4>(p.y[t] + i, res[0]*p.scale[t], gain, n_rows);
        }
    }
}

// L rows by one token: of short rows it is the adding up that costs.
template <int L, typename Row>
inline void run_short(const alora_kernel_args & p, int64_t i0, int64_t i1) {
    typedef typename lanes<L>::f32 V;
    const int64_t n  = p.n;
    const size_t  nb = p.nb;
    for (int64_t i = i0; i < i1; i += L) {
        const int64_t n_rows = i1 - i < L ? i1 - i : L;
        const char * from = ahead(p, i, i1);
        for (size_t o = 0; from && o < L*nb; o += 64) {
            fetch<1>(from + o);
        }
        const char * first = (const char *) p.w + i*nb;
        const float * gain = p.gain ? p.gain + i : nullptr;
        for (int64_t t = 0; t < p.n_x; ++t) {
            const float * x = p.x[t];
            V acc[L] = {};
            for (int64_t k = 0; k < n; k += L) {
                const V v = load<V>(x + k);
                UNROLL for (int r = 0; r < L; ++r) {
                    acc[r] = fused(Row::template at<L>(first + (r < n_rows ? r : n_rows - 1)*nb, k), v, acc[r]);
                }
            }
            add<L>(p.y[t] + i, sums<L>(acc)*p.scale[t], gain, n_rows);
        }
    }
}

// LANES_MAX short rows, transposed, by T tokens: nothing has to be added up across lanes. The sums are those of
// run_short, in its order: S of them, of every S-th value, which sums() adds up.
constexpr int64_t N_SHORT = 64; // values of a row, at most

template <int T> struct wide { lanes<LANES_MAX>::f32 of[T]; };

template <int T, int S, int step = 1>
inline wide<T> sums_wide(const float * wt, const alora_kernel_args & p, int64_t t0, int64_t first = 0) {
    typedef lanes<LANES_MAX>::f32 V;
    wide<T> res = {};
    if constexpr (step == S) {
        for (int64_t k = first; k < p.n; k += S) {
            const V w = load<V>(wt + k*LANES_MAX);
            UNROLL for (int t = 0; t < T; ++t) {
                res.of[t] = fused(p.x[t0 + t][k], w, res.of[t]);
            }
        }
    } else {
        const auto a = sums_wide<T, S, 2*step>(wt, p, t0, first);
        const auto b = sums_wide<T, S, 2*step>(wt, p, t0, first + step);
        UNROLL for (int t = 0; t < T; ++t) {
            res.of[t] = a.of[t] + b.of[t];
        }
    }
    return res;
}

template <int T, int S>
inline void tile_wide(const float * wt, const alora_kernel_args & p, int64_t i, int64_t n_rows, int64_t t0) {
    const auto acc = sums_wide<T, S>(wt, p, t0);
    UNROLL for (int t = 0; t < T; ++t) {
        add<LANES_MAX>(p.y[t0 + t] + i, acc.of[t]*p.scale[t0 + t], p.gain ? p.gain + i : nullptr, n_rows);
    }
}

template <int S, typename Row>
inline void run_wide(const alora_kernel_args & p, int64_t i0, int64_t i1) {
    float wt[N_SHORT*LANES_MAX];
    for (int64_t i = i0; i < i1; i += LANES_MAX) {
        const int64_t n_rows = i1 - i < LANES_MAX ? i1 - i : LANES_MAX;
        for (int r = 0; r < LANES_MAX; ++r) {
            const char * row = (const char *) p.w + (i + (r < n_rows ? r : n_rows - 1))*p.nb;
            for (int64_t k = 0; k < p.n; k += S) {
                const auto w = Row::template at<S>(row, k);
                UNROLL for (int j = 0; j < S; ++j) {
                    wt[(k + j)*LANES_MAX + r] = w[j];
                }
            }
        }
        int64_t t = 0;
        for (; t + 4 <= p.n_x; t += 4) {
            tile_wide<4, S>(wt, p, i, n_rows, t);
        }
        for (; t < p.n_x; ++t) {
            tile_wide<1, S>(wt, p, i, n_rows, t);
        }
    }
}

#if defined(__AVX2__) || defined(__aarch64__)

// Tokens by rows of Q8_0, in integers: the tokens' values are rounded to Q8_0 too, as ggml does.

constexpr int64_t N_INT8 = 16384; // values of a row, at most

#if defined(__AVX2__)

#define LANES_INT8 8

struct q8_block { alignas(32) int8_t x[32], magnitude[32]; float d; };

inline q8_block quantize(const float * x) {
    typedef lanes<8>::f32 V;
    const V v[4] = { load<V>(x), load<V>(x + 8), load<V>(x + 16), load<V>(x + 24) };
    V m = {};
    UNROLL for (int i = 0; i < 4; ++i) {
        m = (V) _mm256_max_ps((__m256) m, _mm256_andnot_ps(_mm256_set1_ps(-0.0f), (__m256) v[i]));
    }
    float max = 0.0f;
    UNROLL for (int i = 0; i < 8; ++i) {
        max = m[i] > max ? m[i] : max;
    }
    q8_block res;
    res.d = max/127.0f;
    const float id = max > 0.0f ? 127.0f/max : 0.0f;
    __m256i q[4];
    UNROLL for (int i = 0; i < 4; ++i) {
        q[i] = _mm256_cvtps_epi32((__m256) (v[i]*id));
    }
    // packing works on halves of a register: groups of four come out as 0 2 4 6 1 3 5 7
    const __m256i packed = _mm256_packs_epi16(_mm256_packs_epi32(q[0], q[1]), _mm256_packs_epi32(q[2], q[3]));
    const __m256i ordered = _mm256_permutevar8x32_epi32(packed, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
    _mm256_store_si256((__m256i *) res.x, ordered);
    _mm256_store_si256((__m256i *) res.magnitude, _mm256_abs_epi8(ordered));
    return res;
}

// the products of two blocks, added up to the eight before
inline lanes<8>::f32 dot(const row_q8_0::block * w, const q8_block & x, lanes<8>::f32 before) {
    const __m256i signed_w = _mm256_sign_epi8(_mm256_loadu_si256((const __m256i *) w->qs), _mm256_load_si256((const __m256i *) x.x));
    const __m256i magnitude = _mm256_load_si256((const __m256i *) x.magnitude);
#if defined(__AVX512VNNI__) && defined(__AVX512VL__)
    const __m256i sums = _mm256_dpbusd_epi32(_mm256_setzero_si256(), magnitude, signed_w);
#else
    const __m256i sums = _mm256_madd_epi16(_mm256_maddubs_epi16(magnitude, signed_w), _mm256_set1_epi16(1));
#endif
    return fused(from_f16(w->d)*x.d, (lanes<8>::f32) _mm256_cvtepi32_ps(sums), before);
}

#else

#define LANES_INT8 4

struct q8_block { int8_t x[32]; float d; };

inline q8_block quantize(const float * x) {
    float32x4_t v[8], m = vdupq_n_f32(0.0f);
    UNROLL for (int i = 0; i < 8; ++i) {
        v[i] = vld1q_f32(x + 4*i);
        m = vmaxq_f32(m, vabsq_f32(v[i]));
    }
    const float max = vmaxvq_f32(m);
    q8_block res;
    res.d = max/127.0f;
    const float id = max > 0.0f ? 127.0f/max : 0.0f;
    int16x4_t q[8];
    UNROLL for (int i = 0; i < 8; ++i) {
        q[i] = vqmovn_s32(vcvtnq_s32_f32(vmulq_n_f32(v[i], id)));
    }
    UNROLL for (int i = 0; i < 4; ++i) {
        vst1_s8(res.x + 8*i, vqmovn_s16(vcombine_s16(q[2*i], q[2*i + 1])));
    }
    return res;
}

// the products of two blocks, added up to the four before
inline lanes<4>::f32 dot(const row_q8_0::block * w, const q8_block & x, lanes<4>::f32 before) {
    const int8x16_t w0 = vld1q_s8(w->qs), w1 = vld1q_s8(w->qs + 16), x0 = vld1q_s8(x.x), x1 = vld1q_s8(x.x + 16);
#if defined(__ARM_FEATURE_DOTPROD)
    const int32x4_t sums = vdotq_s32(vdotq_s32(vdupq_n_s32(0), w0, x0), w1, x1);
#else
    const auto products = [](int8x16_t a, int8x16_t b) {
        return vaddq_s32(vpaddlq_s16(vmull_s8(vget_low_s8(a), vget_low_s8(b))), vpaddlq_s16(vmull_high_s8(a, b)));
    };
    const int32x4_t sums = vaddq_s32(products(w0, x0), products(w1, x1));
#endif
    return fused(from_f16(w->d)*x.d, (lanes<4>::f32) vcvtq_f32_s32(sums), before);
}

#endif

// R rows at a time by a token, x
template <int R>
inline void rows_int8(const alora_kernel_args & p, const q8_block * x, int64_t t, int64_t i0, int64_t i1) {
    typedef lanes<LANES_INT8>::f32 V;
    const int64_t n_blocks = p.n/32;
    for (int64_t i = i0; i < i1; i += R) {
        const int64_t n_rows = i1 - i < R ? i1 - i : R;
        const char * from = t == 0 ? ahead(p, i, i1) : nullptr;
        const row_q8_0::block * rows[R];
        UNROLL for (int r = 0; r < R; ++r) {
            rows[r] = (const row_q8_0::block *) ((const char *) p.w + (i + (r < n_rows ? r : n_rows - 1))*p.nb);
        }
        V acc[R] = {};
        for (int64_t k = 0; k < n_blocks; ++k) {
            if (from) {
                fetch<(R*34 + 63)/64>(from);
                from += R*34;
            }
            UNROLL for (int r = 0; r < R; ++r) {
                acc[r] = dot(rows[r] + k, x[k], acc[r]);
            }
        }
        const float * gain = p.gain ? p.gain + i : nullptr;
        if constexpr (R == LANES_INT8) {
            add<R>(p.y[t] + i, sums<R>(acc)*p.scale[t], gain, n_rows);
        } else {
            const f32x4 folded[4] = { fold(acc[0]), fold(acc[1]), fold(acc[2]), fold(acc[3]) };
            add<4>(p.y[t] + i, sums<4>(folded)*p.scale[t], gain, n_rows);
        }
    }
}

inline void run_int8(const alora_kernel_args & p, int64_t i0, int64_t i1) {
    constexpr int64_t N_TOKENS = N_INT8/N_SHORT; // of short rows, at once: the rows are read once for all of them
    q8_block x[N_INT8/32];
    const int64_t n_blocks = p.n/32;
    const auto get = [&](int64_t t, q8_block * to) {
        for (int64_t k = 0; k < n_blocks; ++k) {
            to[k] = quantize(p.x[t] + 32*k);
        }
    };
    if (p.n > N_SHORT) {
        for (int64_t t = 0; t < p.n_x; ++t) {
            get(t, x);
            rows_int8<4>(p, x, t, i0, i1);
        }
        return;
    }
    for (int64_t t0 = 0; t0 < p.n_x; t0 += N_TOKENS) {
        const int64_t n = p.n_x - t0 < N_TOKENS ? p.n_x - t0 : N_TOKENS;
        for (int64_t t = 0; t < n; ++t) {
            get(t0 + t, x + t*n_blocks);
        }
        constexpr int64_t N_ROWS = 64; // that stay in the first level of cache
        for (int64_t i = i0; i < i1; i += N_ROWS) {
            for (int64_t t = 0; t < n; ++t) {
                rows_int8<LANES_INT8>(p, x + t*n_blocks, t0 + t, i, i1 - i < N_ROWS ? i1 : i + N_ROWS);
            }
        }
    }
}

#endif

// The way depends on the shape alone, but where two ways give the same: no token's sums depend on those beside it.
template <int L, typename Row>
inline void run(const alora_kernel_args & p, int64_t i0, int64_t i1) {
    constexpr int S = L < 8 ? L : 8; // wider, adding up costs more than it saves
    if (p.n % S != 0 || p.n > N_SHORT) {
        run_long<L, Row>(p, i0, i1);
    } else if (p.n_x >= 16) {
        run_wide<S, Row>(p, i0, i1);
    } else {
        run_short<S, Row>(p, i0, i1);
    }
}

// ranks are often 8, or no multiple of anything
template <typename Row>
inline void run(const alora_kernel_args & p, int64_t i0, int64_t i1) {
    if (p.n % LANES_MAX == 0) {
        return run<LANES_MAX, Row>(p, i0, i1);
    }
#if LANES_MAX >= 16
    if (p.n % 8 == 0) {
        return run<8, Row>(p, i0, i1);
    }
#endif
    run<4, Row>(p, i0, i1);
}

} // namespace

void ALORA_KERNEL_NAME(const alora_kernel_args & args, int64_t i0, int64_t i1) {
    switch (args.type) {
        case GGML_TYPE_F32:  return run<row_f32> (args, i0, i1);
        case GGML_TYPE_F16:  return run<row_f16> (args, i0, i1);
        case GGML_TYPE_BF16: return run<row_bf16>(args, i0, i1);
        default:
#if defined(__AVX2__) || defined(__aarch64__)
            if (args.n <= N_INT8) {
                return run_int8(args, i0, i1);
            }
#endif
            return run<LANES_MAX, row_q8_0>(args, i0, i1);
    }
}

#else // a compiler without vector extensions

static float value(ggml_type type, const char * row, int64_t k) {
    switch (type) {
        case GGML_TYPE_F32:  return ((const float *) row)[k];
        case GGML_TYPE_F16:  return ggml_fp16_to_fp32(((const ggml_fp16_t *) row)[k]);
        case GGML_TYPE_BF16: return ggml_bf16_to_fp32(((const ggml_bf16_t *) row)[k]);
        default: { // q8_0
            const char * block = row + k/32*34;
            return ((const int8_t *) block)[2 + k%32] * ggml_fp16_to_fp32(*(const ggml_fp16_t *) block);
        }
    }
}

void ALORA_KERNEL_NAME(const alora_kernel_args & p, int64_t i0, int64_t i1) {
    for (int64_t i = i0; i < i1; ++i) {
        for (int64_t t = 0; t < p.n_x; ++t) {
            float sum = 0.0f;
            for (int64_t k = 0; k < p.n; ++k) {
                sum += value(p.type, (const char *) p.w + i*p.nb, k) * p.x[t][k];
            }
            p.y[t][i] += sum * p.scale[t] * (p.gain ? p.gain[i] : 1.0f);
        }
    }
}

#endif
