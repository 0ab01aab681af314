#pragma once

// The tensors of one adapter, each pair beside the weight that it adapts.

#include "alora.h"

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

// Every weight that the graphs of a model multiply through their adapted paths, learnt while they
// are reserved; nullptr for one whose rows are not those of the ubatch, which cannot be adapted.
using alora_weights = std::map<alora_weight_key, const ggml_tensor *>;

// Matrix: a [n_in, r], b [r, n_out]. Experts: the same with n_expert as third dimension.
// Rows: a [r, n_rows], b [r, n_embd].
struct alora_pair {
    ggml_tensor * a = nullptr;
    ggml_tensor * b = nullptr;

    size_t block = 0; // which of the adapter's blocks has this pair's rank and scale
};

// Pairs of equal rank and equal alpha / rank share one block of the graph's scale input.
struct alora_block {
    int64_t rank;
    float   scale; // alpha / rank, or 1 where alpha is 0

    bool operator==(const alora_block & other) const { return rank == other.rank && scale == other.scale; }
};

struct alora_adapter {
    // Throws alora_error.
    alora_adapter(const char * path, const char * arch, const alora_weights & weights);

    alora_adapter(const alora_adapter &) = delete;
    alora_adapter & operator=(const alora_adapter &) = delete;

    const alora_pair * pair(const ggml_tensor * w, alora_role role) const;

    // Throws alora_error if a pair has no weight of its shape among `weights`.
    void check(const alora_weights & weights) const;

    uint64_t n_bytes() const;

    // An upper bound of what this adapter adds to a graph: five nodes and two leafs a pair.
    uint32_t n_nodes() const { return 8u * (uint32_t) pairs.size(); }

    const uint64_t    id; // never used twice in a process
    const std::string path;

    std::map<alora_weight_key, alora_pair> pairs;
    std::vector<alora_block> blocks;

    std::vector<ggml_context_ptr>        ctxs;
    std::vector<ggml_backend_buffer_ptr> bufs;
};

using alora_adapter_ptr = std::shared_ptr<alora_adapter>;
