#pragma once

// Vectors of L floats, and rows of the types that adapters and caches have, for files that are compiled
// once for each instruction set (native.cmake): the compiler's flags decide the width.
//
// All of it is in an unnamed namespace, and nothing that is inline may come from another header: the
// linker would keep one copy, perhaps the one that this processor cannot run.

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <utility>

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#if !defined(ALORA_SCALAR) && (defined(__clang__) || __GNUC__ >= 9)
#define ALORA_VECTORS
#endif

#ifdef ALORA_VECTORS

#if defined(__AVX512F__)
#define LANES_MAX 16
#elif defined(__AVX2__)
#define LANES_MAX 8
#else
#define LANES_MAX 4
#endif

#define UNROLL _Pragma("GCC unroll 16")

namespace {

template <int L> struct lanes;
template <> struct lanes<4>  { typedef float f32 __attribute__((vector_size(16))); typedef uint32_t u32 __attribute__((vector_size(16))); };
template <> struct lanes<8>  { typedef float f32 __attribute__((vector_size(32))); typedef uint32_t u32 __attribute__((vector_size(32))); };
template <> struct lanes<16> { typedef float f32 __attribute__((vector_size(64))); typedef uint32_t u32 __attribute__((vector_size(64))); };

typedef lanes<4>::f32 f32x4;

template <typename V> inline V load(const void * p) {
    V res;
    memcpy(&res, p, sizeof(V));
    return res;
}

template <typename V> inline void store(void * p, V v) { memcpy(p, &v, sizeof(V)); }

// a*b + c, in one rounding where the processor has that. The compiler itself fuses nothing (native.cmake): what
// it would fuse differs from loop to loop, and the same values must have the same sum in all of them.
inline float fused(float a, float b, float c) {
#if defined(__FMA__) || defined(__aarch64__)
    return __builtin_fmaf(a, b, c);
#else
    return a*b + c;
#endif
}
inline f32x4 fused(f32x4 a, f32x4 b, f32x4 c) {
#if defined(__FMA__)
    return (f32x4) _mm_fmadd_ps((__m128) a, (__m128) b, (__m128) c);
#elif defined(__aarch64__)
    return (f32x4) vfmaq_f32((float32x4_t) c, (float32x4_t) a, (float32x4_t) b);
#else
    return a*b + c;
#endif
}
#if LANES_MAX >= 8
inline lanes<8>::f32 fused(lanes<8>::f32 a, lanes<8>::f32 b, lanes<8>::f32 c) {
    return (lanes<8>::f32) _mm256_fmadd_ps((__m256) a, (__m256) b, (__m256) c);
}
#endif
#if LANES_MAX >= 16
inline lanes<16>::f32 fused(lanes<16>::f32 a, lanes<16>::f32 b, lanes<16>::f32 c) {
    return (lanes<16>::f32) _mm512_fmadd_ps((__m512) a, (__m512) b, (__m512) c);
}
#endif
template <typename V> inline V fused(float a, V b, V c) { return fused(a - V {}, b, c); }

// Adds up N = L vectors of L lanes, each to the lane of its number: pairs of vectors become one, in which
// groups of N/2 lanes from the first and the second take turns, until one is left. Of eight lanes
//   ((0 + 4) + (2 + 6)) + ((1 + 5) + (3 + 7))
template <int L, int G, bool upper, size_t... I>
inline auto groups(typename lanes<L>::f32 a, typename lanes<L>::f32 b, std::index_sequence<I...>) {
#if defined(__clang__)
    return __builtin_shufflevector(a, b, (int) (I/(2*G)*(2*G) + I%G + (upper ? G : 0) + (I/G%2 ? L : 0))...);
#else
    return __builtin_shuffle(a, b, typename lanes<L>::u32 { (uint32_t) (I/(2*G)*(2*G) + I%G + (upper ? G : 0) + (I/G%2 ? L : 0))... });
#endif
}
template <int L, int N = L> inline typename lanes<L>::f32 sums(const typename lanes<L>::f32 * v) {
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
    return (f32x4) _mm256_castps256_ps128((__m256) v) + (f32x4) _mm256_extractf128_ps((__m256) v, 1);
}
#endif
#if LANES_MAX >= 16
inline f32x4 fold(lanes<16>::f32 v) {
    return fold((lanes<8>::f32) _mm512_castps512_ps256((__m512) v) + (lanes<8>::f32) _mm512_extractf32x8_ps((__m512) v, 1));
}
#endif

// L values, widened. Compilers turn such conversions into scalar code, so these are spelled out.

template <int L> inline typename lanes<L>::u32 from_u16(const uint16_t * p) {
#if defined(__AVX512F__)
    if constexpr (L == 16) {
        return (typename lanes<L>::u32) _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *) p));
    } else
#endif
#if defined(__AVX2__)
    if constexpr (L == 8) {
        return (typename lanes<L>::u32) _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *) p));
    } else
#endif
#if defined(__x86_64__)
    return (typename lanes<L>::u32) _mm_unpacklo_epi16(_mm_loadl_epi64((const __m128i *) p), _mm_setzero_si128());
#elif defined(__aarch64__)
    return (typename lanes<L>::u32) vmovl_u16(vld1_u16(p));
#else
    return typename lanes<L>::u32 { p[0], p[1], p[2], p[3] };
#endif
}

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
    const auto h = from_u16<L>(p);
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
#if defined(__x86_64__)
    {
        const __m128i tops = _mm_unpacklo_epi8(_mm_setzero_si128(), _mm_cvtsi32_si128(load<int32_t>(p)));
        return (typename lanes<L>::f32) _mm_cvtepi32_ps(_mm_srai_epi32(_mm_unpacklo_epi16(_mm_setzero_si128(), tops), 24));
    }
#elif defined(__aarch64__)
    const int8x8_t v = vreinterpret_s8_s32(vdup_n_s32(load<int32_t>(p)));
    return (typename lanes<L>::f32) vcvtq_f32_s32(vmovl_s16(vget_low_s16(vmovl_s8(v))));
#else
    return typename lanes<L>::f32 { (float) p[0], (float) p[1], (float) p[2], (float) p[3] };
#endif
}

inline float from_f16(uint16_t h) {
#if defined(__F16C__)
    return _cvtsh_ss(h);
#elif defined(__aarch64__)
    return load<__fp16>(&h);
#else
    const uint32_t bits = (uint32_t) (h & 0x7fff) << 13;
    const float magnitude = load<float>(&bits) * 0x1p112f;
    return h & 0x8000 ? -magnitude : magnitude;
#endif
}

// L values of a row from index k on
struct row_f32 {
    static constexpr int bytes = 4; // a value
    template <int L> static auto at(const char * row, int64_t k) { return load<typename lanes<L>::f32>((const float *) row + k); }
    static float one(const char * row, int64_t k) { return ((const float *) row)[k]; }
};
struct row_f16 {
    static constexpr int bytes = 2; // a value
    template <int L> static auto at(const char * row, int64_t k) { return from_f16<L>((const uint16_t *) row + k); }
    static float one(const char * row, int64_t k) { return from_f16(((const uint16_t *) row)[k]); }
};
struct row_bf16 {
    static constexpr int bytes = 2; // a value
    template <int L> static auto at(const char * row, int64_t k) {
        return (typename lanes<L>::f32) (from_u16<L>((const uint16_t *) row + k) << 16);
    }
    static float one(const char * row, int64_t k) {
        const uint32_t bits = (uint32_t) ((const uint16_t *) row)[k] << 16;
        return load<float>(&bits);
    }
};
struct row_q8_0 {
    static constexpr int bytes = 1;
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

} // namespace

#endif
