#pragma once

// The kernels for the processor that this runs on.

#include "alora-attention-kernel.h"
#include "alora-kernel.h"

struct alora_kernels {
    const char *           name; // the instruction set, or "scalar"
    alora_kernel           rows;
    alora_attention_kernel attention; // nullptr from a compiler without vector extensions
};

// The best ones; the environment variable ALORA_KERNEL=scalar, generic, avx2, avx512 or dotprod names others
// (those that the processor lacks are not taken), so that tests reach them all.
// On 64-bit Arm the generic ones have NEON, which all of these processors have.
alora_kernels alora_kernels_get();
