// Compiled once for each instruction set (native.cmake): -DALORA_KERNEL_NAME is the function's name.
// So a library for any x86-64 has the best kernel, also where ggml's own are in backends that are
// loaded at run time and cannot be linked to.

#include "alora-kernel.h"
#include "alora-lanes.h"

#include <utility>

#ifdef ALORA_VECTORS

#if defined(__AVX512F__) || defined(__aarch64__)
#define TOKENS_MAX 4
#else
#define TOKENS_MAX 2
#endif

namespace {

// Adds up N = L vectors of L lanes, each to the lane of its number: pairs of vectors become one, in which
// groups of N/2 lanes from the first and the second take turns, until one is left.
template <int L, int G, bool upper, size_t... I>
inline auto groups(typename lanes<L>::f32 a, typename lanes<L>::f32 b, std::index_sequence<I...>) {
    return __builtin_shufflevector(a, b, (int) (I/(2*G)*(2*G) + I%G + (upper ? G : 0) + (I/G%2 ? L : 0))...);
}
template <int L, int N = L> inline auto sums(const typename lanes<L>::f32 * v) {
    if constexpr (N == 1) {
        return v[0];
    } else {
        typename lanes<L>::f32 half[N/2];
        UNROLL for (int i = 0; i < N/2; ++i) {
            constexpr auto all = std::make_index_sequence<L>();
            half[i] = groups<L, N/2, false>(v[i], v[i + N/2], all) + groups<L, N/2, true>(v[i], v[i + N/2], all);
        }
        return sums<L, N/2>(half);
    }
}

inline f32x4 fold(f32x4 v) { return v; }
#if LANES_MAX >= 8
inline f32x4 fold(lanes<8>::f32 v) {
    return __builtin_shufflevector(v, v, 0, 1, 2, 3) + __builtin_shufflevector(v, v, 4, 5, 6, 7);
}
#endif
#if LANES_MAX >= 16
inline f32x4 fold(lanes<16>::f32 v) {
    return fold(__builtin_shufflevector(v, v, 0, 1, 2, 3, 4, 5, 6, 7) + __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15));
}
#endif

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
                acc[t][r] += w * load<V>(x[t] + k);
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
                    acc[r] += Row::template at<L>(first + (r < n_rows ? r : n_rows - 1)*nb, k) * v;
                }
            }
            add<L>(p.y[t] + i, sums<L>(acc)*p.scale[t], gain, n_rows);
        }
    }
}

// LANES_MAX short rows, transposed, by T tokens: nothing has to be added up across lanes.
constexpr int64_t N_WIDE = 128; // values of a row, at most

template <int T>
inline void tile_wide(const float * wt, const alora_kernel_args & p, int64_t i, int64_t n_rows, int64_t t0) {
    typedef lanes<LANES_MAX>::f32 V;
    V acc[T] = {};
    for (int64_t k = 0; k < p.n; ++k) {
        const V w = load<V>(wt + k*LANES_MAX);
        UNROLL for (int t = 0; t < T; ++t) {
            acc[t] += w * p.x[t0 + t][k];
        }
    }
    UNROLL for (int t = 0; t < T; ++t) {
        add<LANES_MAX>(p.y[t0 + t] + i, acc[t]*p.scale[t0 + t], p.gain ? p.gain + i : nullptr, n_rows);
    }
}

template <int L, typename Row>
inline void run_wide(const alora_kernel_args & p, int64_t i0, int64_t i1) {
    float wt[N_WIDE*LANES_MAX];
    for (int64_t i = i0; i < i1; i += LANES_MAX) {
        const int64_t n_rows = i1 - i < LANES_MAX ? i1 - i : LANES_MAX;
        for (int r = 0; r < LANES_MAX; ++r) {
            const char * row = (const char *) p.w + (i + (r < n_rows ? r : n_rows - 1))*p.nb;
            for (int64_t k = 0; k < p.n; k += L) {
                const auto w = Row::template at<L>(row, k);
                UNROLL for (int j = 0; j < L; ++j) {
                    wt[(k + j)*LANES_MAX + r] = w[j];
                }
            }
        }
        int64_t t = 0;
        for (; t + 4 <= p.n_x; t += 4) {
            tile_wide<4>(wt, p, i, n_rows, t);
        }
        for (; t < p.n_x; ++t) {
            tile_wide<1>(wt, p, i, n_rows, t);
        }
    }
}

#if defined(__AVX2__) || defined(__aarch64__)

// One token by rows of Q8_0, in integers: the token's values are rounded to Q8_0 too, as ggml does. With
// more tokens a value that is converted once is used for all of them, and nothing is rounded.

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

// the products of two blocks, added up to eight
inline lanes<8>::f32 dot(const row_q8_0::block * w, const q8_block & x) {
    const __m256i signed_w = _mm256_sign_epi8(_mm256_loadu_si256((const __m256i *) w->qs), _mm256_load_si256((const __m256i *) x.x));
    const __m256i magnitude = _mm256_load_si256((const __m256i *) x.magnitude);
#if defined(__AVX512VNNI__) && defined(__AVX512VL__)
    const __m256i sums = _mm256_dpbusd_epi32(_mm256_setzero_si256(), magnitude, signed_w);
#else
    const __m256i sums = _mm256_madd_epi16(_mm256_maddubs_epi16(magnitude, signed_w), _mm256_set1_epi16(1));
#endif
    return (lanes<8>::f32) _mm256_cvtepi32_ps(sums) * (from_f16(w->d)*x.d);
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

// the products of two blocks, added up to four
inline lanes<4>::f32 dot(const row_q8_0::block * w, const q8_block & x) {
    const int8x16_t w0 = vld1q_s8(w->qs), w1 = vld1q_s8(w->qs + 16), x0 = vld1q_s8(x.x), x1 = vld1q_s8(x.x + 16);
#if defined(__ARM_FEATURE_DOTPROD)
    const int32x4_t sums = vdotq_s32(vdotq_s32(vdupq_n_s32(0), w0, x0), w1, x1);
#else
    const auto products = [](int8x16_t a, int8x16_t b) {
        return vaddq_s32(vpaddlq_s16(vmull_s8(vget_low_s8(a), vget_low_s8(b))), vpaddlq_s16(vmull_high_s8(a, b)));
    };
    const int32x4_t sums = vaddq_s32(products(w0, x0), products(w1, x1));
#endif
    return (lanes<4>::f32) vcvtq_f32_s32(sums) * (from_f16(w->d)*x.d);
}

#endif

template <int R> // rows at a time
inline void run_int8(const alora_kernel_args & p, int64_t i0, int64_t i1) {
    typedef lanes<LANES_INT8>::f32 V;
    q8_block x[N_INT8/32];
    const int64_t n_blocks = p.n/32;
    for (int64_t k = 0; k < n_blocks; ++k) {
        x[k] = quantize(p.x[0] + 32*k);
    }
    for (int64_t i = i0; i < i1; i += R) {
        const int64_t n_rows = i1 - i < R ? i1 - i : R;
        const char * from = ahead(p, i, i1);
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
                acc[r] += dot(rows[r] + k, x[k]);
            }
        }
        const float * gain = p.gain ? p.gain + i : nullptr;
        if constexpr (R == LANES_INT8) {
            add<R>(p.y[0] + i, sums<R>(acc)*p.scale[0], gain, n_rows);
        } else {
            const f32x4 folded[4] = { fold(acc[0]), fold(acc[1]), fold(acc[2]), fold(acc[3]) };
            add<4>(p.y[0] + i, sums<4>(folded)*p.scale[0], gain, n_rows);
        }
    }
}

#endif

template <int L, typename Row>
inline void run(const alora_kernel_args & p, int64_t i0, int64_t i1) {
    constexpr int S = L < 8 ? L : 8; // wider, adding up costs more than it saves
    if (p.n % S == 0 && p.n <= N_WIDE && p.n_x >= 16) {
        run_wide<S, Row>(p, i0, i1);
    } else if (p.n % S == 0 && p.n <= 64) {
        run_short<S, Row>(p, i0, i1);
    } else {
        run_long<L, Row>(p, i0, i1);
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
            if (args.n_x == 1 && args.n <= N_INT8) {
                return args.n <= 64 ? run_int8<LANES_INT8>(args, i0, i1) : run_int8<4>(args, i0, i1);
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
