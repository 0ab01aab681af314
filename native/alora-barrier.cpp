#include "alora-barrier.h"

#include <thread>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

void alora_barrier::wait(int n_parts) const {
    for (int i = 0; n_arrived.load(std::memory_order_acquire) < n_parts; ++i) {
        if (i >= 1000) { // more threads than cores: perhaps who has the part waits for this one
            std::this_thread::yield();
        }
#if defined(__x86_64__)
        _mm_pause();
#elif defined(__aarch64__)
        __asm__ volatile("yield" ::: "memory");
#endif
    }
}
