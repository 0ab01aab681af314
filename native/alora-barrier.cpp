#include "alora-barrier.h"

#include <thread>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

void alora_barrier::wait(int n_threads) {
    if (n_threads == 1) {
        return;
    }
    const int passed = n_passed.load(std::memory_order_relaxed);
    if (n_arrived.fetch_add(1, std::memory_order_acq_rel) == n_threads - 1) {
        n_arrived.store(0, std::memory_order_relaxed);
        n_passed.store(passed + 1, std::memory_order_release);
        return;
    }
    for (int i = 0; n_passed.load(std::memory_order_acquire) == passed; ++i) {
        if (i >= 10000) { // more threads than cores
            std::this_thread::yield();
        }
#if defined(__x86_64__)
        _mm_pause();
#elif defined(__aarch64__)
        __asm__ volatile("yield" ::: "memory");
#endif
    }
}
