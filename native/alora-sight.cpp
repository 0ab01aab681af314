#include "alora-sight.h"

#include <algorithm>
#include <iterator>
#include <numeric>
#include <tuple>

static constexpr uint16_t MASKED = 0xfc00; // -inf

// Blocks of a segment, for a token at this position.
static int64_t segment_length(int64_t pos) {
    const int64_t n_blocks = pos/alora_sight::N_BLOCK + 1;
    int64_t res = 2;
    while (res*alora_sight::N_SEGMENTS_MAX < n_blocks) {
        res *= 2;
    }
    return res;
}

// The numbers of the cells that there are, by position; those of one position by number.
static void sort_by_position(const std::vector<int32_t> & pos, std::vector<int32_t> & order) {
    order.clear();
    bool sorted = true;
    for (size_t i = 0; i < pos.size(); ++i) {
        if (pos[i] >= 0) {
            sorted = sorted && (order.empty() || pos[order.back()] <= pos[i]);
            order.push_back((int32_t) i);
        }
    }
    if (!sorted) {
        std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) { return pos[a] < pos[b]; });
    }
}

void alora_sight::clear() {
    for (auto * v : { &cells, &tokens, &by_cells }) {
        v->clear();
    }
    teams.clear();
    segments.clear();
    calls.clear();
    seers.clear();
}

void alora_sight::add(int32_t stream, const std::vector<token> & added, const std::vector<int32_t> & pos, int64_t n_together) {
    sort_by_position(pos, order);
    ranks.clear();
    lists.resize(added.size());
    for (size_t t = 0; t < added.size(); ++t) {
        auto & mine = lists[t];
        mine.clear();
        for (size_t rank = 0; rank < order.size(); ++rank) {
            if (added[t].mask[order[rank]] == MASKED) {
                continue;
            }
            const int64_t block = (int64_t) (pos[order[rank]]/N_BLOCK) << 32;
            if (mine.empty() || mine.back().key >> 32 != block >> 32) {
                mine.push_back({ block, ranks.size(), 0 });
            } else if (mine.back().n == N_BLOCK) {
                mine.push_back({ mine.back().key + 1, ranks.size(), 0 });
            }
            ranks.push_back((int32_t) rank);
            mine.back().n++;
        }
    }

    // a team's tokens have the same segments, and the first cell of their second block, or of their only one
    const auto kin = [&](size_t t) {
        const auto & mine = lists[t];
        const int32_t cell = mine.empty() ? -1 : ranks[mine[mine.size() > 1].first];
        return std::make_tuple(segment_length(added[t].pos), mine.size() > 1, cell);
    };
    std::vector<size_t> by_kin(added.size());
    std::iota(by_kin.begin(), by_kin.end(), 0);
    std::stable_sort(by_kin.begin(), by_kin.end(), [&](size_t a, size_t b) { return kin(a) < kin(b); });
    for (size_t i = 0; i < by_kin.size();) {
        size_t end = i + 1;
        while (end < by_kin.size() && (int64_t) (end - i) < std::min(n_together, N_BLOCK) && kin(by_kin[end]) == kin(by_kin[i])) {
            ++end;
        }
        add_team(stream, std::vector<size_t>(by_kin.begin() + i, by_kin.begin() + end), added);
        i = end;
    }

    by_cells.resize(segments.size());
    std::iota(by_cells.begin(), by_cells.end(), 0);
    const auto number = [&](int32_t s) { return s - teams[segments[s].team].segments; };
    std::stable_sort(by_cells.begin(), by_cells.end(), [&](int32_t a, int32_t b) { return number(a) < number(b); });
}

void alora_sight::add_team(int32_t stream, const std::vector<size_t> & members, const std::vector<token> & added) {
    const int64_t length = segment_length(added[members[0]].pos);
    teams.push_back({ stream, (int32_t) tokens.size(), (int32_t) members.size(), (int32_t) segments.size(), 0 });
    for (const auto t : members) {
        tokens.push_back(added[t].index);
    }

    std::vector<size_t> next(members.size(), 0); // list of each
    std::vector<const list *> now(members.size());
    std::vector<size_t> group;
    int64_t number = -1; // of the segment
    for (;;) {
        int64_t key = INT64_MAX;
        for (size_t m = 0; m < members.size(); ++m) {
            const auto & mine = lists[members[m]];
            now[m] = next[m] < mine.size() ? &mine[next[m]] : nullptr;
            key = now[m] ? std::min(key, now[m]->key) : key;
        }
        if (key == INT64_MAX) {
            return;
        }
        if (number != (key >> 32)/length) {
            number = (key >> 32)/length;
            segments.push_back({ (int32_t) teams.size() - 1, (int32_t) calls.size(), 0, (int32_t) n_segment_tokens() });
            teams.back().n_segments++;
        }
        // tokens of one call see half of its cells, on average
        size_t n_seen = 0;
        group.clear();
        both.clear();
        for (size_t m = 0; m < members.size(); ++m) {
            if (!now[m] || now[m]->key != key) {
                now[m] = nullptr;
                continue;
            }
            next[m]++;
            const auto begin = ranks.begin() + now[m]->first, end = begin + now[m]->n;
            std::vector<int32_t> with;
            std::set_union(both.begin(), both.end(), begin, end, std::back_inserter(with));
            if (!group.empty() && ((int64_t) with.size() > N_BLOCK || 2*(n_seen + now[m]->n) < with.size()*(group.size() + 1))) {
                add_call(group, now);
                group.clear();
                n_seen = 0;
                with.assign(begin, end);
            }
            both.swap(with);
            group.push_back(m);
            n_seen += now[m]->n;
        }
        add_call(group, now);
        segments.back().n_calls = (int32_t) calls.size() - segments.back().calls;
    }
}

// of the cells `both`
void alora_sight::add_call(const std::vector<size_t> & members, const std::vector<const list *> & now) {
    call res { (int32_t) cells.size(), (int32_t) both.size(), (int32_t) seers.size(), (int32_t) members.size(), true };
    for (const auto rank : both) {
        cells.push_back(order[rank]);
    }
    for (const auto m : members) {
        uint64_t seen = 0;
        auto rank = ranks.begin() + now[m]->first;
        for (size_t i = 0; i < both.size(); ++i) {
            if (rank != ranks.begin() + now[m]->first + now[m]->n && *rank == both[i]) {
                seen |= uint64_t(1) << i;
                ++rank;
            }
        }
        res.whole = res.whole && now[m]->n == both.size();
        seers.push_back({ seen, (int32_t) m });
    }
    calls.push_back(res);
}
