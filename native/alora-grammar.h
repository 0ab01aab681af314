#pragma once

// What one step of a grammar may cost. After a few characters a grammar can have millions of ways to
// go on, each of which llama.cpp would keep.

#include "llama.h"

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <stdexcept>

struct alora_grammar_error : std::runtime_error {
    alora_grammar_error() : std::runtime_error("a grammar that has too many ways to go on") {}
};

// While one lives, the ways that the calling thread follows are counted, each with those that it is
// compared with. A second at most, then there is an alora_grammar_error; and at once if no way is left.
struct alora_grammar_budget {
    alora_grammar_budget(size_t n_ways = 1) {
        if (n_ways == 0) {
            throw alora_grammar_error();
        }
        active() = this;
    }
    ~alora_grammar_budget() { active() = nullptr; }

    static void spend(size_t n_compared) {
        if (auto * budget = active(); budget && (budget->left -= 100 + (int64_t) n_compared) < 0) {
            throw alora_grammar_error();
        }
    }

private:
    int64_t left = 50000000;

    static alora_grammar_budget *& active() {
        static thread_local alora_grammar_budget * res = nullptr;
        return res;
    }
};

// The answer of a grammar that cannot be followed any longer: no logit is a number.
inline void alora_grammar_give_up(llama_token_data_array * candidates) {
    for (size_t i = 0; i < candidates->size; ++i) {
        candidates->data[i].logit = NAN;
    }
}
