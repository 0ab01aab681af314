#pragma once

// The tensors of one adapter, each pair beside the weight that it adapts.

#include "alora.h"
#include "alora-system.h"

#include "ggml-cpp.h"

#include <cstdint>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

// A refusal with the status that the C surface returns for it.
struct alora_error : std::runtime_error {
    alora_status status;
    alora_error(alora_status status, const std::string & message) : std::runtime_error(message), status(status) {}
};

// How a graph uses a weight. A tied weight is used both as rows and as a matrix, and an adapter of
// the one is not an adapter of the other.
enum alora_role {
    ALORA_ROLE_MATRIX,  // ggml_mul_mat(w, x)
    ALORA_ROLE_EXPERTS, // ggml_mul_mat_id(w, x, ids)
    ALORA_ROLE_ROWS,    // ggml_get_rows(w, tokens)
};

using alora_weight_key = std::pair<std::string, alora_role>;

// A weight that the graphs of a model multiply through their adapted paths.
struct alora_weight {
    const ggml_tensor * tensor; // nullptr where its rows are not those of the ubatch: cannot be adapted
    size_t              index;  // in the order in which they were seen
};

// All of them, learnt while the graphs are reserved.
using alora_weights = std::map<alora_weight_key, alora_weight>;

// Matrix: a [n_in, r], b [r, n_out]. Experts: the same with n_expert as third dimension.
// Rows: a [r, n_rows], b [r, n_embd].
// With W x the base product and s = alpha / rank times the activation's scale, the pair adds
//   g * (s * B A x) + s * bias + (g - 1) * (W x)
// to it, where g is 1 without a magnitude. With one, that is DoRA: PEFT's m / |W + s B A| is the file's g.
struct alora_pair {
    ggml_tensor * a = nullptr;
    ggml_tensor * b = nullptr;

    // F32 [n_out], or nullptr
    ggml_tensor * bias        = nullptr;
    ggml_tensor * magnitude   = nullptr; // g
    ggml_tensor * magnitude_1 = nullptr; // g - 1

    // which of the adapter's blocks the graph needs for it: one of its rank, one of 1 row of its scale, one of ones
    size_t block      = 0;
    size_t block_bias = 0;
    size_t block_mask = 0;
};

// What the graph's scale input holds for a token that the adapter is active for: `rank` times the
// activation's scale times `scale`, or times 1 alone (a mask). Pairs with equal needs share a block.
struct alora_block {
    int64_t rank;
    float   scale; // alpha / rank, or 1 where alpha is 0
    bool    mask;

    bool operator==(const alora_block & other) const { return rank == other.rank && scale == other.scale && mask == other.mask; }
};

class alora_adapter_file;

struct alora_adapter {
    // Loads a file. Throws alora_error.
    alora_adapter(const char * path, const char * arch, const alora_weights & weights);

    alora_adapter(const alora_adapter &) = delete;
    alora_adapter & operator=(const alora_adapter &) = delete;

    // Its pairs by alora_weight::index, nullptr where it has none.
    // Throws alora_error if a pair has no weight of its shape among `weights`.
    std::vector<const alora_pair *> resolve(const alora_weights & weights) const;

    uint64_t n_bytes() const;

    // An upper bound of what this adapter adds to a graph, nodes and leafs.
    uint32_t n_nodes() const;

    const uint64_t    id; // its handle, never used twice in a process
    const std::string path;

    std::map<alora_weight_key, alora_pair> pairs;
    std::vector<alora_block> blocks;

    std::map<ggml_backend_buffer_type_t, ggml_context_ptr> ctxs; // of its tensors, one for each kind of memory
    std::vector<std::unique_ptr<alora_pages>>              pages; // of some of the buffers
    std::vector<ggml_backend_buffer_ptr>                   bufs;

private:
    // One of the file's tensors and one of the device's, whose values are the file's less a number.
    struct copied { ggml_tensor * src; ggml_tensor * dst; float minus; };

    // It is made in three steps: its pairs, each with a weight of `weights`, from tensors without memory;
    // the memory; the values.
    std::vector<copied> match(const alora_adapter_file & file, const alora_weights & weights);
    void allocate();
    void copy(alora_adapter_file & file, const std::vector<copied> & copies);

    size_t block_of(const alora_block & block);
    ggml_backend_buffer_t alloc(ggml_context * ctx, ggml_backend_buffer_type_t buft); // nullptr: no memory
};

using alora_adapter_ptr = std::shared_ptr<alora_adapter>;
