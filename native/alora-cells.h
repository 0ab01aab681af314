#pragma once

// What a memory has of a sequence, and where a call of llama_memory_* puts it.

#include "llama.h"

class  llama_kv_cache;
class  llama_kv_cells;
class  llama_memory_recurrent;
struct llama_memory_i;

// What seq_add or seq_div does: to the cells of `seq_id` in [p0, p1), and to these for whatever sequences have them too.
struct alora_shift {
    llama_seq_id seq_id;
    llama_pos    p0;
    llama_pos    p1;
    llama_pos    delta; // added to a position
    int          d;     // divides it

    bool      takes(llama_pos pos) const { return pos >= p0 && pos < p1; }
    llama_pos to   (llama_pos pos) const; // below 0: the cell is gone
};

// A view of one memory. Positions are those of attention's cells; where there are windows beside, of the whole ones;
// where there is none, a recurrent state stands for a cell at every position up to its own.
class alora_cells {
public:
    explicit alora_cells(const llama_memory_i * mem);

    // The sequence's last position, -1: it has no cell.
    llama_pos last(llama_seq_id seq_id) const;

    // Whether it has one in [p0, p1).
    bool any(llama_seq_id seq_id, llama_pos p0, llama_pos p1) const;

    // Whether a copy of `src` replaces all that `dst` has, whatever its range.
    bool copy_replaces(llama_seq_id src, llama_seq_id dst) const;

    // Where a start goes to that lies between the cells of the sequence before and from it on, as these move.
    // -1: there were cells from it on, or before it if it has none, and all are gone.
    llama_pos start_after(llama_seq_id seq_id, llama_pos start, const alora_shift & shift) const;

private:
    const llama_kv_cells * cells_of(llama_seq_id seq_id) const; // nullptr: a recurrent state is all there is

    const llama_memory_i * mem;
    const llama_kv_cache         * attention;
    const llama_memory_recurrent * recurrent;
};
