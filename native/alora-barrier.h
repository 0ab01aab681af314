#pragma once

#include <atomic>

// What threads read next, others have written in parts. Whoever waits here waits for the parts and not for the threads:
// one that has no core now holds up nobody, for the others take its part.
struct alora_barrier {
    void begin() { n_arrived.store(0, std::memory_order_relaxed); } // before the threads

    void arrive() { n_arrived.fetch_add(1, std::memory_order_release); } // with a part

    void wait(int n_parts) const;

private:
    std::atomic<int> n_arrived { 0 };
};
