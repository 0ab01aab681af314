#include "alora-cpu.h"

#include "alora.h"

#include <cstdlib>
#include <cstring>

#if defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#elif defined(__aarch64__) && defined(__APPLE__)
#include <sys/sysctl.h>
#endif

// what native.cmake compiles for each instruction set
#define KERNELS(isa) \
    void alora_kernel_##isa(const alora_kernel_args & args, int64_t i0, int64_t i1); \
    extern const alora_attention_kernel alora_attention_##isa; \
    static alora_kernels isa() { return { alora_attention_##isa ? #isa : "scalar", alora_kernel_##isa, alora_attention_##isa }; }

#ifdef ALORA_KERNELS_X86
#include <cpuid.h>

KERNELS(avx2)
KERNELS(avx512)

// The processor is asked here: of __builtin_cpu_supports zig's compiler makes "no" to everything, and clang before 18
// does not know "f16c".
struct x86 {
    uint32_t ecx_1 = 0, ebx_7 = 0, ecx_7 = 0; // what cpuid says to 1 and 7
    uint32_t saved = 0;                       // registers that the system saves of a thread, as xgetbv has them

    x86() {
        uint32_t eax, ebx, edx;
        if (__get_cpuid(1, &eax, &ebx, &ecx_1, &edx) && (ecx_1 & bit_OSXSAVE)) {
            __asm__ volatile("xgetbv" : "=a"(saved), "=d"(edx) : "c"(0));
            __get_cpuid_count(7, 0, &eax, &ebx_7, &ecx_7, &edx);
        }
    }

    bool has_avx2() const {
        const uint32_t needed = bit_AVX | bit_FMA | bit_F16C;
        return (saved & 0x06) == 0x06 && (ecx_1 & needed) == needed && (ebx_7 & bit_AVX2);
    }

    bool has_avx512() const {
#ifdef __APPLE__
        const uint32_t registers = 0x06; // those of 512 bits are added when a thread first uses one
#else
        const uint32_t registers = 0xe6;
#endif
        const uint32_t needed = bit_AVX512F | bit_AVX512BW | bit_AVX512DQ | bit_AVX512VL;
        return has_avx2() && (saved & registers) == registers && (ebx_7 & needed) == needed && (ecx_7 & bit_AVX512VNNI);
    }
};
#endif
#ifdef ALORA_KERNELS_ARM
KERNELS(dotprod)

static bool has_dotprod() {
#if defined(__linux__)
    return getauxval(AT_HWCAP) & (1ul << 20); // HWCAP_ASIMDDP
#elif defined(__APPLE__)
    int res = 0;
    size_t size = sizeof(res);
    return sysctlbyname("hw.optional.arm.FEAT_DotProd", &res, &size, nullptr, 0) == 0 && res;
#else
    return false;
#endif
}
#endif
KERNELS(generic)
KERNELS(scalar)

alora_kernels alora_kernels_get() {
    const char * name = getenv("ALORA_KERNEL");
    if (name && strcmp(name, "scalar") == 0) {
        return scalar();
    }
    const auto may_be = [&](const char * isa) { return !name || strcmp(name, isa) == 0; };
#ifdef ALORA_KERNELS_X86
    static const x86 cpu; // to ask takes its time on a virtual machine
    if (may_be("avx512") && cpu.has_avx512()) {
        return avx512();
    }
    if (may_be("avx2") && cpu.has_avx2()) {
        return avx2();
    }
#elif defined(ALORA_KERNELS_ARM)
    if (may_be("dotprod") && has_dotprod()) {
        return dotprod();
    }
#else
    (void) may_be;
#endif
    return generic();
}

const char * alora_kernels_name(void) {
    return alora_kernels_get().name;
}
