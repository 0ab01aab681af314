#pragma once

// Where an attention's mask lets anything through. Conversations lie in one cache, and a token sees the
// cells of its own: of a row of a hundred thousand it skips most, sixty-four at a time. Which ones these
// are is looked up once for all heads.

#include "ggml.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <new>
#include <vector>

// Of one thread, for the node that it computes.
class alora_seen {
public:
    static constexpr int64_t N = 64; // cells that are seen or skipped together

    // mask F16 [n_kv, n_tokens, ...] of finite values and -inf, or nullptr. What was known of another is forgotten.
    static void begin(const ggml_tensor * mask) noexcept {
        auto & self = of_thread();
        self.mask = mask;
        try {
            const size_t n_rows = mask ? mask->ne[1]*mask->ne[2]*mask->ne[3] : 0;
            self.n_words = mask ? (mask->ne[0] + N*64 - 1)/(N*64) : 0;
            self.known.assign(n_rows, false);
            self.bits.resize(n_rows*self.n_words);
            self.any.resize(self.n_words);
        } catch (const std::bad_alloc &) {
            self.mask = nullptr; // everything may be seen, then
        }
    }

    // What any of n_rows rows from [i1, i2, i3] on sees: a bit for N cells. nullptr: this is not known.
    // Good until the next call.
    static const uint64_t * rows(int64_t i1, int64_t n_rows, int64_t i2, int64_t i3) {
        auto & self = of_thread();
        if (!self.mask || n_rows == 1) {
            return self.mask ? self.row(i1, i2, i3) : nullptr;
        }
        std::fill(self.any.begin(), self.any.end(), 0);
        for (int64_t i = 0; i < n_rows; ++i) {
            const uint64_t * row = self.row(i1 + i, i2, i3);
            for (size_t j = 0; j < self.n_words; ++j) {
                self.any[j] |= row[j];
            }
        }
        return self.any.data();
    }

    // Whether any of n cells from `first` on may be seen.
    static bool any_of(const uint64_t * rows, int64_t first, int64_t n) {
        for (int64_t i = first/N; rows && i <= (first + n - 1)/N; ++i) {
            if (rows[i/64] >> i%64 & 1) {
                return true;
            }
        }
        return !rows;
    }

    // The first cell from `i` on that the row `mask` sees, or n.
    static int64_t next(const uint64_t * rows, const uint16_t * mask, int64_t i, int64_t n) {
        while (i < n) {
            const int64_t end = std::min(n, (i/N + 1)*N);
            for (; any_of(rows, i, 1) && i < end; ++i) {
                if (mask[i] != MASKED) {
                    return i;
                }
            }
            i = end;
        }
        return n;
    }

private:
    static constexpr uint16_t MASKED = 0xfc00; // -inf

    const ggml_tensor *   mask    = nullptr;
    size_t                n_words = 0; // of a row
    std::vector<bool>     known;
    std::vector<uint64_t> bits;
    std::vector<uint64_t> any;

    static alora_seen & of_thread() {
        thread_local alora_seen self;
        return self;
    }

    const uint64_t * row(int64_t i1, int64_t i2, int64_t i3) {
        i2 %= mask->ne[2];
        i3 %= mask->ne[3];
        const size_t i = (i3*mask->ne[2] + i2)*mask->ne[1] + i1;
        uint64_t * to = bits.data() + i*n_words;
        if (!known[i]) {
            known[i] = true;
            std::fill(to, to + n_words, 0);
            const auto * from = (const uint16_t *) ((const char *) mask->data + i1*mask->nb[1] + i2*mask->nb[2] + i3*mask->nb[3]);
            for (int64_t cell = 0; cell < mask->ne[0]; cell += N) {
                const int64_t n = std::min(N, mask->ne[0] - cell);
                uint16_t seen = 0;
                for (int64_t j = 0; j < n; ++j) {
                    seen |= from[cell + j] ^ MASKED;
                }
                to[cell/N/64] |= (uint64_t) (seen != 0) << cell/N%64;
            }
        }
        return to;
    }
};
