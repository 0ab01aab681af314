#pragma once

// Attention of adapted tokens on the CPU. ggml's reads the cells of a conversation anew for every token
// and every head; intrinsics of one conversation share nearly all of theirs. Here a cell is read once for
// some of the tokens that see it and all the heads that share it. An adapted token has this attention
// whatever is beside it, and its sums are in the order of positions (alora-sight.h): they depend neither on
// what is beside it, nor on where its cells lie, nor on the number of threads.

#include "alora-cpu.h"
#include "alora-sight.h"

#include <atomic>
#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <vector>

struct llama_memory_i;
struct llama_ubatch;

class alora_attention {
public:
    alora_attention();
    ~alora_attention();

    // Whether a graph's ggml_flash_attn_ext is for build(); where its cache lies is for the caller to know.
    bool takes(const ggml_tensor * flash) const;

    // The node in place of `flash`: as its operands say,
    //   q F32 [dk, n_tokens, n_head, n_stream], k [dk, n_kv, n_head_kv, n_stream], v [dv, n_kv, n_head_kv, n_stream],
    //   mask F16 [n_kv, n_tokens, 1, n_stream] of 0 and -inf, with ALiBi of distances and -inf, an input; sinks F32 [n_head] or none
    // -> F32 [dv, n_head, n_tokens, n_stream], in F32 arithmetic.
    // mixed: tokens of the base have their rows of `flash`, which then sees nothing for the others.
    // place: called with every new node that is for the CPU.
    ggml_tensor * build(ggml_context * ctx0, ggml_tensor * flash, bool mixed, const std::function<void(ggml_tensor *)> & place);

    bool empty() const { return nodes.empty(); }

    // Before the graph is computed, and after its masks are filled: all that the threads need is made here,
    // for n_threads of them or fewer.
    // active: a flag for every token. memory: the context's, whose cells' positions are looked up.
    void begin(const std::vector<uint8_t> & active, const llama_ubatch & ubatch, const llama_memory_i * memory, int n_threads);

private:
    struct view; // what the tokens see of a cache
    struct node;
    struct worker; // one thread in a node
    struct alignas(64) line { float values[16]; };

    static void compute     (ggml_tensor * dst, int ith, int nth, void * userdata);
    static void mask_of_base(ggml_tensor * dst, int ith, int nth, void * userdata);

    void look(view & view, const llama_ubatch & ubatch, const llama_memory_i * memory);

    std::list<node> nodes; // the graph has their addresses
    std::map<std::pair<const ggml_tensor *, int64_t>, view> views; // by mask and how many tokens are a team
    std::map<const ggml_tensor *, ggml_tensor *> masks; // of the base's tokens, by that of all
    std::vector<uint8_t> active; // by token

    int               n_threads = 0;
    std::vector<line> scratch;     // of each thread
    size_t            n_scratch = 0; // lines of a thread
    std::vector<line> parts;       // of tokens' segments, where threads share a token's

    std::unique_ptr<std::atomic<int32_t>[]> n_done; // segments, by team and head, where threads share them
    size_t n_counters = 0;

    const alora_attention_kernel kernel = alora_kernels_get().attention;
};
