// Compiled once for each instruction set (native.cmake): -DALORA_KERNEL_NAME is the function's name
// and the compiler's flags decide the width of its vectors. So a library for any x86-64 has the best
// kernel, also where ggml's own are in backends that are loaded at run time and cannot be linked to.
//
// Nothing that is inline may come from a header: the linker would keep one copy, perhaps the one
// that this processor cannot run.

#include "alora-kernel.h"

#include <string.h>

#if defined(__AVX2__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#if defined(__clang__) || __GNUC__ >= 12

#if defined(__AVX512F__)
#define LANES_MAX 16
#define TOKENS_MAX 4
#elif defined(__AVX2__)
#define LANES_MAX 8
#define TOKENS_MAX 2
#else
#define LANES_MAX 4
#define TOKENS_MAX 2
#endif

#define UNROLL _Pragma("GCC unroll 4")

namespace {

template <int L> struct lanes;
template <> struct lanes<4>  { typedef float f32 __attribute__((vector_size(16))); typedef uint32_t u32 __attribute__((vector_size(16)));
                               typedef uint16_t u16 __attribute__((vector_size(8)));  typedef int8_t i8 __attribute__((vector_size(4)));  };
template <> struct lanes<8>  { typedef float f32 __attribute__((vector_size(32))); typedef uint32_t u32 __attribute__((vector_size(32)));
                               typedef uint16_t u16 __attribute__((vector_size(16))); typedef int8_t i8 __attribute__((vector_size(8)));  };
template <> struct lanes<16> { typedef float f32 __attribute__((vector_size(64))); typedef uint32_t u32 __attribute__((vector_size(64)));
                               typedef uint16_t u16 __attribute__((vector_size(32))); typedef int8_t i8 __attribute__((vector_size(16))); };

typedef lanes<4>::f32 f32x4;

template <typename V> inline V load(const void * p) {
    V res;
    memcpy(&res, p, sizeof(V));
    return res;
}

// Compilers turn these two conversions of vectors into scalar code.

template <int L> inline typename lanes<L>::f32 from_f16(const uint16_t * p) {
#if defined(__AVX512F__)
    if constexpr (L == 16) {
        return (typename lanes<L>::f32) _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *) p));
    } else
#endif
#if defined(__F16C__)
    if constexpr (L == 8) {
        return (typename lanes<L>::f32) _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *) p));
    } else {
        return (typename lanes<L>::f32) _mm_cvtph_ps(_mm_loadl_epi64((const __m128i *) p));
    }
#elif defined(__aarch64__)
    return (typename lanes<L>::f32) vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p)));
#else
    // exponent and mantissa move up, and the exponent's bias changes by 127 - 15: right for subnormals too
    const auto h = __builtin_convertvector(load<typename lanes<L>::u16>(p), typename lanes<L>::u32);
    const auto magnitude = (typename lanes<L>::f32) ((h & 0x7fffu) << 13) * 0x1p112f;
    return (typename lanes<L>::f32) ((typename lanes<L>::u32) magnitude | ((h & 0x8000u) << 16));
#endif
}

template <int L> inline typename lanes<L>::f32 from_i8(const int8_t * p) {
#if defined(__AVX512F__)
    if constexpr (L == 16) {
        return (typename lanes<L>::f32) _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *) p)));
    } else
#endif
#if defined(__AVX2__)
    if constexpr (L == 8) {
        return (typename lanes<L>::f32) _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *) p)));
    } else
#endif
    return __builtin_convertvector(load<typename lanes<L>::i8>(p), typename lanes<L>::f32);
}

inline float from_f16(uint16_t h) {
#if defined(__F16C__)
    return _cvtsh_ss(h);
#else
    const uint32_t bits = (uint32_t) (h & 0x7fff) << 13;
    const float magnitude = load<float>(&bits) * 0x1p112f;
    return h & 0x8000 ? -magnitude : magnitude;
#endif
}

// L values of a row from index k on
struct row_f32 {
    template <int L> static auto at(const char * row, int64_t k) { return load<typename lanes<L>::f32>((const float *) row + k); }
    static float one(const char * row, int64_t k) { return ((const float *) row)[k]; }
};
struct row_f16 {
    template <int L> static auto at(const char * row, int64_t k) { return from_f16<L>((const uint16_t *) row + k); }
    static float one(const char * row, int64_t k) { return from_f16(((const uint16_t *) row)[k]); }
};
struct row_bf16 {
    template <int L> static auto at(const char * row, int64_t k) {
        const auto h = load<typename lanes<L>::u16>((const uint16_t *) row + k);
        return (typename lanes<L>::f32) (__builtin_convertvector(h, typename lanes<L>::u32) << 16);
    }
    static float one(const char * row, int64_t k) {
        const uint32_t bits = (uint32_t) ((const uint16_t *) row)[k] << 16;
        return load<float>(&bits);
    }
};
struct row_q8_0 {
    struct block { uint16_t d; int8_t qs[32]; };

    template <int L> static auto at(const char * row, int64_t k) {
        const auto * b = (const block *) row + k/32;
        return from_i8<L>(b->qs + k%32) * from_f16(b->d);
    }
    static float one(const char * row, int64_t k) {
        const auto * b = (const block *) row + k/32;
        return b->qs[k%32] * from_f16(b->d);
    }
};

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

// the sums of four vectors as one
inline f32x4 sums(f32x4 a, f32x4 b, f32x4 c, f32x4 d) {
    const f32x4 ab = __builtin_shufflevector(a, b, 0, 4, 1, 5) + __builtin_shufflevector(a, b, 2, 6, 3, 7);
    const f32x4 cd = __builtin_shufflevector(c, d, 0, 4, 1, 5) + __builtin_shufflevector(c, d, 2, 6, 3, 7);
    return __builtin_shufflevector(ab, cd, 0, 1, 4, 5) + __builtin_shufflevector(ab, cd, 2, 3, 6, 7);
}

// four rows by T tokens: every value of a row is converted once and used T times
template <int L, int T, typename Row>
inline void tile(const char * const rows[4], int64_t n, const float * const * x, f32x4 res[T]) {
    typename lanes<L>::f32 acc[4][T] = {};
    int64_t k = 0;
    for (; k + L <= n; k += L) {
        typename lanes<L>::f32 xs[T];
        UNROLL for (int t = 0; t < T; ++t) {
            xs[t] = load<typename lanes<L>::f32>(x[t] + k);
        }
        UNROLL for (int r = 0; r < 4; ++r) {
            const auto w = Row::template at<L>(rows[r], k);
            UNROLL for (int t = 0; t < T; ++t) {
                acc[r][t] += w * xs[t];
            }
        }
    }
    UNROLL for (int t = 0; t < T; ++t) {
        res[t] = sums(fold(acc[0][t]), fold(acc[1][t]), fold(acc[2][t]), fold(acc[3][t]));
    }
    for (; k < n; ++k) {
        UNROLL for (int t = 0; t < T; ++t) {
            const float v = x[t][k];
            res[t] += f32x4 { Row::one(rows[0], k)*v, Row::one(rows[1], k)*v, Row::one(rows[2], k)*v, Row::one(rows[3], k)*v };
        }
    }
}

template <int L, int T, typename Row>
inline void tokens(const alora_kernel_args & p, const char * const rows[4], int64_t i, int64_t n_rows, int64_t t0) {
    f32x4 res[T];
    tile<L, T, Row>(rows, p.n, p.x + t0, res);
    UNROLL for (int t = 0; t < T; ++t) {
        float * y = p.y[t0 + t] + i;
        f32x4 v = res[t]*p.scale[t0 + t];
        if (n_rows == 4) {
            v = load<f32x4>(y) + (p.gain ? v*load<f32x4>(p.gain + i) : v);
            memcpy(y, &v, sizeof(v));
        } else {
            for (int64_t r = 0; r < n_rows; ++r) {
                y[r] += p.gain ? v[r]*p.gain[i + r] : v[r];
            }
        }
    }
}

template <int L, typename Row>
inline void run(const alora_kernel_args & p, int64_t i0, int64_t i1) {
    for (int64_t i = i0; i < i1; i += 4) {
        const int64_t n_rows = i1 - i < 4 ? i1 - i : 4;
        const char * rows[4];
        for (int64_t r = 0; r < 4; ++r) {
            rows[r] = (const char *) p.w + (i + (r < n_rows ? r : 0))*p.nb;
        }
        int64_t t = 0;
        for (; t + TOKENS_MAX <= p.n_x; t += TOKENS_MAX) {
            tokens<L, TOKENS_MAX, Row>(p, rows, i, n_rows, t);
        }
        for (; t < p.n_x; ++t) {
            tokens<L, 1, Row>(p, rows, i, n_rows, t);
        }
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
        default:             return run<LANES_MAX, row_q8_0>(args, i0, i1);
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
