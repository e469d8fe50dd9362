// SPDX-License-Identifier: Apache-2.0
// What compilers for 32-bit ARM call for arithmetic that its oldest cores lack (the "run-time ABI for the Arm architecture",
// division and conversions of 64-bit integers); usually a part of the compiler's own library, which Debian has not for this
// target. None of it is called in inner loops.

#include <stdint.h>

unsigned __aeabi_uidiv(unsigned n, unsigned d);
uint64_t __aeabi_uidivmod(unsigned n, unsigned d);
int __aeabi_idiv(int n, int d);
uint64_t __aeabi_idivmod(int n, int d);
void __aeabi_uldivmod(void);
void __aeabi_ldivmod(void);
double __aeabi_ul2d(uint64_t x);
double __aeabi_l2d(int64_t x);
uint64_t qcnn_arm_divide_unsigned(uint64_t n, uint64_t d, uint64_t *remainder);
int64_t qcnn_arm_divide_signed(int64_t n, int64_t d, int64_t *remainder);

// Long division, a bit at a time. Dividing by zero gives zero, as the hardware does.
uint64_t qcnn_arm_divide_unsigned(uint64_t n, uint64_t d, uint64_t *remainder)
{
    uint64_t quotient = 0;
    if (d != 0 && n >= d) {
        int shift = __builtin_clzll(d) - __builtin_clzll(n);
        for (d <<= shift; shift >= 0; shift--, d >>= 1) {
            if (n >= d) {
                n -= d;
                quotient |= (uint64_t)1 << shift;
            }
        }
    }
    *remainder = n;
    return quotient;
}

int64_t qcnn_arm_divide_signed(int64_t n, int64_t d, int64_t *remainder)
{
    uint64_t rest;
    const uint64_t quotient = qcnn_arm_divide_unsigned(n < 0 ? 0 - (uint64_t)n : (uint64_t)n, d < 0 ? 0 - (uint64_t)d : (uint64_t)d, &rest);
    *remainder = (int64_t)(n < 0 ? 0 - rest : rest);
    return (int64_t)((n < 0) != (d < 0) ? 0 - quotient : quotient);
}

// Quotient in r0, remainder in r1: what a 64-bit result looks like.
uint64_t __aeabi_uidivmod(unsigned n, unsigned d)
{
    unsigned quotient = 0;
    if (d != 0 && n >= d) {
        int shift = __builtin_clz(d) - __builtin_clz(n);
        for (d <<= shift; shift >= 0; shift--, d >>= 1) {
            if (n >= d) {
                n -= d;
                quotient |= 1u << shift;
            }
        }
    }
    return (uint64_t)n << 32 | quotient;
}

unsigned __aeabi_uidiv(unsigned n, unsigned d)
{
    return (unsigned)__aeabi_uidivmod(n, d);
}

uint64_t __aeabi_idivmod(int n, int d)
{
    const uint64_t both = __aeabi_uidivmod(n < 0 ? 0u - (unsigned)n : (unsigned)n, d < 0 ? 0u - (unsigned)d : (unsigned)d);
    const unsigned quotient = (unsigned)both, rest = (unsigned)(both >> 32);
    return (uint64_t)(n < 0 ? 0u - rest : rest) << 32 | ((n < 0) != (d < 0) ? 0u - quotient : quotient);
}

int __aeabi_idiv(int n, int d)
{
    return (int)(unsigned)__aeabi_idivmod(n, d);
}

// Quotient in r0 and r1, remainder in r2 and r3, which no C function can return: the fifth argument, a pointer to room for the
// remainder, goes on the stack, and the remainder is loaded from there.
#define DIVIDE_BY(function)                                                                                                                \
    __asm__ volatile("push {r6, lr}\n"                                                                                                     \
                     "sub sp, sp, #16\n"                                                                                                   \
                     "add r6, sp, #8\n"                                                                                                    \
                     "str r6, [sp]\n"                                                                                                      \
                     "bl " function "\n"                                                                                                   \
                     "ldr r2, [sp, #8]\n"                                                                                                  \
                     "ldr r3, [sp, #12]\n"                                                                                                 \
                     "add sp, sp, #16\n"                                                                                                   \
                     "pop {r6, pc}\n")

__attribute__((naked)) void __aeabi_uldivmod(void)
{
    DIVIDE_BY("qcnn_arm_divide_unsigned");
}

__attribute__((naked)) void __aeabi_ldivmod(void)
{
    DIVIDE_BY("qcnn_arm_divide_signed");
}

// Rounded once, in the sum: both halves are exact.
double __aeabi_ul2d(uint64_t x)
{
    return (double)(unsigned)(x >> 32) * 4294967296.0 + (double)(unsigned)x;
}

double __aeabi_l2d(int64_t x)
{
    return (double)(int)(x >> 32) * 4294967296.0 + (double)(unsigned)x;
}
