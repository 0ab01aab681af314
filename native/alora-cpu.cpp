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

static bool has_f16c() { // clang before 18 does not know the name in __builtin_cpu_supports
    unsigned eax, ebx, ecx, edx;
    return __get_cpuid(1, &eax, &ebx, &ecx, &edx) && (ecx & bit_F16C);
}
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
    if (may_be("avx512") && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
            __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni")) {
        return avx512();
    }
    if (may_be("avx2") && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c()) {
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
