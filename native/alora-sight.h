#pragma once

// Which cells of a cache the adapted tokens of a ubatch see, in the order of their positions.
//
// A token's attention adds up its cells in blocks of 64 positions, and its blocks in segments, whose length
// depends on the token's own position. So the sums of a token are those of its conversation: they depend
// neither on where the cells lie nor on what else is in the cache or in the batch. And threads may share the
// segments of a token among them, however many threads there are.

#include <cstddef>
#include <cstdint>
#include <vector>

class alora_sight {
public:
    static constexpr int64_t N_BLOCK        = 64; // positions, and cells of a call
    static constexpr int64_t N_SEGMENTS_MAX = 16; // of a token

    // Cells of one block that some tokens of a team see, for one call of the kernel.
    struct call {
        int32_t cells;   // the first one, in `cells`
        int32_t n_cells;
        int32_t seers;   // the first one, in `seers`
        int32_t n_seers;
        bool    whole;   // each of them sees all of the cells
    };
    struct seer {
        uint64_t cells;  // of the call: a bit for each
        int32_t  member; // of the team
    };
    struct segment {
        int32_t team;
        int32_t calls;   // the first one, in `calls`; those of one segment lie together
        int32_t n_calls;
        int32_t before;  // tokens of all segments before it
    };
    // Tokens that see nearly the same.
    struct team {
        int32_t stream;
        int32_t tokens;  // the first one, in `tokens`
        int32_t n_tokens;
        int32_t segments; // the first one, in `segments`; those of one team lie together
        int32_t n_segments;
    };

    // One token of the ubatch. mask F16 [n_kv]: 0 where it sees a cell, else -inf.
    struct token {
        int32_t          index;
        int32_t          pos;
        const uint16_t * mask;
    };

    void clear();

    // The tokens whose cells are in one stream of the cache. pos [n_kv]: of the cells, -1: there is none.
    // n_together: of a team, at most.
    void add(int32_t stream, const std::vector<token> & tokens, const std::vector<int32_t> & pos, int64_t n_together);

    int64_t n_segment_tokens() const { return segments.empty() ? 0 : segments.back().before + teams[segments.back().team].n_tokens; }

    std::vector<team>    teams;
    std::vector<segment> segments;
    std::vector<call>    calls;
    std::vector<seer>    seers;
    std::vector<int32_t> cells;
    std::vector<int32_t> tokens; // indices

    // segments in an order in which neighbours read the same cells
    std::vector<int32_t> by_cells;

private:
    struct list { // of the cells of a block that a token sees, at most 64
        int64_t key; // the block's number, and which 64 of its cells where positions are not unique
        size_t  first;
        size_t  n;
    };

    void add_team(int32_t stream, const std::vector<size_t> & members, const std::vector<token> & tokens);
    void add_call(const std::vector<size_t> & members, const std::vector<const list *> & lists);

    // while tokens are added
    std::vector<int32_t>           order; // cells by position
    std::vector<int32_t>           ranks; // in `order`, of the cells that the tokens see
    std::vector<std::vector<list>> lists; // by token
    std::vector<int32_t>           both;  // ranks that some tokens see
};
