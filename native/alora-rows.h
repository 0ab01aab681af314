#pragma once

// Products of weights by rows whose values must not depend on the rows beside them.
//
// ggml has one way for a row alone and others for several, which add up in other orders: with F32, F16 and BF16
// weights from two rows on, with K-quants from four or eight on. For a row that an adapter was activated for in the
// midst of its conversation the way is always the same, and so is the answer of an intrinsic, whatever is in the batch:
//   F32, F16 and BF16 weights   our own kernel, in F32 arithmetic
//   others                      that of ggml for a row alone
//   experts' K-quants           that of ggml for few rows of an expert: it has tiles from eight on
// Where ggml's ways agree to the bit (Q4_0, Q4_1, Q8_0 on x86-64), nothing is added.

#include "alora-context.h"
#include "alora-cpu.h"

#include <cstdint>
#include <functional>
#include <map>
#include <vector>

// Whether ggml's CPU backend multiplies a row by w alike, to the bit, however many there are. It is tried, once a
// process for each type, buffer type and length of a row. Throws std::bad_alloc.
bool alora_rows_alike(const ggml_tensor * w);

// The same of experts [n_in, n_out, n_expert] and of the rows that one of them has.
bool alora_experts_alike(const ggml_tensor * w);

class alora_rows {
public:
    // How many rows are computed alone, of the tokens and of the outputs.
    struct layout {
        int64_t n_tokens  = 0;
        int64_t n_outputs = 0;
        bool    all       = false; // every row is one of them

        bool operator==(const layout & other) const { return n_tokens == other.n_tokens && n_outputs == other.n_outputs && all == other.all; }
    };

    // What ggml_mul_mat(w, cur) is, but for the rows that are computed alone, in place or in another tensor.
    //   cur F32 [n_in, ...] with rows equally far from each other, product [n_out, ...] contiguous
    // place: called with every new node that is for the CPU.
    ggml_tensor * build(ggml_context * ctx0, ggml_tensor * w, ggml_tensor * cur, ggml_tensor * product, const layout & layout, bool outputs,
            const std::function<void(ggml_tensor *)> & place);

    // What ggml_mul_mat_id(w, cur, ids) is, likewise.
    //   cur F32 [n_in, n_expert_used or 1, n_rows], ids I32 [n_expert_used, n_rows], product [n_out, n_expert_used, n_rows] contiguous
    ggml_tensor * build_experts(ggml_context * ctx0, ggml_tensor * w, ggml_tensor * cur, ggml_tensor * ids, ggml_tensor * product, const layout & layout,
            bool outputs, const std::function<void(ggml_tensor *)> & place);

    // Before the graph is computed. is_output: nullptr where every token is one.
    void set_plan(const alora_plan & plan, uint32_t n_tokens, const int8_t * is_output);

private:
    struct rows {
        std::vector<int32_t> numbers; // of those that are computed alone
        alora_kernel         kernel;
    };

    static void take    (ggml_tensor * dst, int ith, int nth, void * userdata);
    static void put     (ggml_tensor * dst, int ith, int nth, void * userdata);
    static void take_planes(ggml_tensor * dst, int ith, int nth, void * userdata);
    static void take_ids   (ggml_tensor * dst, int ith, int nth, void * userdata);
    static void put_planes (ggml_tensor * dst, int ith, int nth, void * userdata);
    static void multiply(ggml_tensor * dst, int ith, int nth, void * userdata);

    const alora_kernels kernels = alora_kernels_get();

    rows tokens  { {}, kernels.rows };
    rows outputs { {}, kernels.rows };

    std::map<const ggml_tensor *, ggml_tensor *> taken; // rows of an activation: several weights multiply it
};
