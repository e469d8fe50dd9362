// SPDX-License-Identifier: Apache-2.0
// What this processor can do. Only instruction sets that some kernel uses are asked for.

#include "kernels/kernels.h"

#if defined(__x86_64__)
#include <cpuid.h>

// The state components that the operating system saves (XCR0): bits 1 and 2 are the xmm and ymm registers, 5 to 7 those of AVX-512.
static unsigned saved_state(void)
{
    unsigned low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return low;
}

unsigned qcnn_cpu_flags(void)
{
    enum { FMA = 1 << 12, OSXSAVE = 1 << 27, YMM_STATE = 6, ZMM_STATE = 0xE6 };
    // of leaf 7, register b: AVX512F, DQ, BW, VL; register c: VBMI, VNNI
    enum { AVX2 = 1 << 5, VBMI = 1 << 1, VNNI = 1 << 11 };
    const unsigned avx512 = 1U << 16 | 1U << 17 | 1U << 30 | 1U << 31;
    unsigned a, b, c, d, flags = 0;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & OSXSAVE))
        return 0;
    const bool fma = c & FMA, ymm = (saved_state() & YMM_STATE) == YMM_STATE, zmm = (saved_state() & ZMM_STATE) == ZMM_STATE;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d))
        return 0;
    if ((b & AVX2) && fma && ymm)
        flags |= QCNN_CPU_AVX2;
    if (flags && zmm && (b & avx512) == avx512)
        flags |= QCNN_CPU_AVX512 | (c & VNNI ? QCNN_CPU_AVX512VNNI : 0U) | (c & VBMI ? QCNN_CPU_AVX512VBMI : 0U);
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
