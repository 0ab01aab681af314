#pragma once

// The inner loop of the attention: some cells of one head of the cache by some queries.

#include "ggml.h"

#include <cstddef>
#include <cstdint>

constexpr int64_t ALORA_N_CELLS = 64; // at once, at most
constexpr int64_t ALORA_N_FEW   = 4;  // so many queries, or fewer, have values that lie together by query

// A running softmax, a lane a query: of the cells so far
//   max [n_lanes], sum [n_lanes] of exp(score - max), acc [dv, n_lanes] of exp(score - max) * v
// and now also of `n_cells` more. A lane begins with max = ALORA_SCORE_MIN, sum = 0, acc = 0.
//
// What a lane gets depends on its query and on the cells that it sees, in their order, and on nothing else: not on
// the number of lanes, nor on cells between its own that are masked for it.
struct alora_attention_args {
    ggml_type       type; // of k and v: F32, F16, BF16 or Q8_0
    const char    * k;    // [dk, n] with rows nb_k bytes apart
    const char    * v;    // [dv, n]
    size_t          nb_k;
    size_t          nb_v;
    int64_t         dk;   // multiples of 8
    int64_t         dv;
    const int32_t * cells; // which of the n
    int64_t         n_cells;

    // of 1, 2 or 4 lanes          of 8 or a multiple of 16
    const float   * q;    // [n_lanes][dk]               [dk][n_lanes], scaled
    const float   * mask; // [n_lanes][ALORA_N_CELLS]    [n_cells][n_lanes], what a score gets or ALORA_SCORE_MASKED; nullptr: all 0
    int64_t         n_lanes;

    float * max;
    float * sum;
    float * acc;     // [n_lanes][dv]               [dv][n_lanes]
    float * scratch; // alora_attention_scratch floats

    float cap = 0.0f; // a score s becomes cap*tanh(s), before the mask; 0: it stays s
};

constexpr float ALORA_SCORE_MASKED = -1e30f; // finite, so that no difference of two is NaN
constexpr float ALORA_SCORE_MIN    = -1e29f; // above it: the exponential of a masked score is 0

constexpr int64_t alora_attention_lanes(int64_t n_queries) {
    return n_queries <= 2 ? n_queries : n_queries <= 4 ? 4 : n_queries <= 8 ? 8 : (n_queries + 15)/16*16;
}

constexpr int64_t alora_attention_scratch(int64_t dk, int64_t dv, int64_t n_lanes) {
    return ALORA_N_CELLS*((dk > dv ? dk : dv) + n_lanes);
}

using alora_attention_kernel = void (*)(const alora_attention_args & args);
