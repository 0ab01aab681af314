#pragma once

// The inner loop of the fused way: rows of an adapter's matrix by the vectors of some tokens.

#include "ggml.h"

#include <cstddef>
#include <cstdint>

// The rows [i0, i1) of w, each `n` values long and `nb` bytes apart, by n_x vectors, in F32 arithmetic:
//   y[t][i] += scale[t] * gain[i] * sum_k w[i][k] * x[t][k]
// x, y: one pointer a token. gain may be nullptr. The sum of a row and a token does not depend on i0 and i1, nor on the
// tokens beside it.
struct alora_kernel_args {
    ggml_type     type; // F32, F16, BF16 or Q8_0
    const void  * w;
    size_t        nb;
    int64_t       n;
    const float * gain;

    const float * const * x;
    float       * const * y;
    const float *         scale;
    int64_t               n_x;

    const void * next; // what this thread reads after the row i1 - 1, to be fetched meanwhile; or nullptr
};

using alora_kernel = void (*)(const alora_kernel_args & args, int64_t i0, int64_t i1);
