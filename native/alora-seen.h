#pragma once

// Where an attention's mask lets anything through. Conversations lie in one cache, and a token sees the
// cells of its own: of a row of a hundred thousand it skips most, sixty-four at a time.

#include <cstddef>
#include <cstdint>

// F16: 0xfc00 is -inf, what is not seen
static inline bool alora_any_seen(const uint16_t * mask, int64_t n) {
    uint16_t any = 0;
    for (int64_t i = 0; i < n; ++i) {
        any |= mask[i] ^ 0xfc00;
    }
    return any != 0;
}

// The first cell from `i` on that is seen, or n.
static inline int64_t alora_next_seen(const uint16_t * mask, int64_t i, int64_t n) {
    while (i + 64 <= n && mask[i] == 0xfc00 && !alora_any_seen(mask + i, 64)) {
        i += 64;
    }
    while (i < n && mask[i] == 0xfc00) {
        ++i;
    }
    return i;
}

// Whether any of `n_rows` rows, nb bytes apart, sees one of its first n cells.
static inline bool alora_tile_seen(const void * mask, size_t nb, int64_t n_rows, int64_t n) {
    for (int64_t row = 0; row < n_rows; ++row) {
        if (alora_any_seen((const uint16_t *) ((const char *) mask + row*nb), n)) {
            return true;
        }
    }
    return false;
}
