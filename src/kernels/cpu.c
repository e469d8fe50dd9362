// SPDX-License-Identifier: Apache-2.0
// What this processor can do. Only instruction sets that some kernel uses are asked for.

#include "kernels/kernels.h"

#if defined(__x86_64__)
#include <cpuid.h>

// The state components that the operating system saves (XCR0): bits 1 and 2 are the xmm and ymm registers.
static unsigned saved_state(void)
{
    unsigned low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return low;
}

unsigned qcnn_cpu_flags(void)
{
    enum { FMA = 1 << 12, OSXSAVE = 1 << 27, AVX2 = 1 << 5, YMM_STATE = 6 };
    unsigned a, b, c, d, flags = 0;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & OSXSAVE))
        return 0;
    const bool fma = c & FMA, ymm = (saved_state() & YMM_STATE) == YMM_STATE;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d))
        return 0;
    if ((b & AVX2) && fma && ymm)
        flags |= QCNN_CPU_AVX2;
    return flags;
}

#elif defined(__aarch64__)

// Of Linux and Android; where there is none, only what the compiler was told to count on.
extern unsigned long getauxval(unsigned long type) __attribute__((weak));

unsigned qcnn_cpu_flags(void)
{
#if defined(__ARM_FEATURE_DOTPROD)
    return QCNN_CPU_DOT;
#else
    enum { HARDWARE = 16, DOT_PRODUCTS = 1 << 20 }; // AT_HWCAP, HWCAP_ASIMDDP
    return getauxval && (getauxval(HARDWARE) & DOT_PRODUCTS) ? QCNN_CPU_DOT : 0;
#endif
}

#else

unsigned qcnn_cpu_flags(void)
{
    return 0;
}

#endif
