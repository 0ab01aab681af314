#pragma once

// Vectors of L floats, and rows of the types that adapters and caches have, for files that are compiled
// once for each instruction set (native.cmake): the compiler's flags decide the width.
//
// All of it is in an unnamed namespace, and nothing that is inline may come from another header: the
// linker would keep one copy, perhaps the one that this processor cannot run.

#include <stdint.h>
#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#if defined(__clang__) || __GNUC__ >= 12
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
