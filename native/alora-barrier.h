#pragma once

#include <atomic>

// All threads of a node wait for each other here: what one of them reads next, others have written.
struct alora_barrier {
    void wait(int n_threads);

private:
    std::atomic<int> n_arrived { 0 };
    std::atomic<int> n_passed  { 0 };
};
