// SPDX-License-Identifier: Apache-2.0
// Half-precision storage of activations: 16 bits where 32 would not fit in memory. Branch-free, so that loops over it become
// vector code on every machine. Values beyond the largest half (65504) become that, not-a-number becomes a large number.

#ifndef QCNN_COMPRESS_HALF_H
#define QCNN_COMPRESS_HALF_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

static inline uint16_t qcnn_half_of(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    const uint32_t sign = bits >> 16 & 0x8000u;
    bits &= 0x7fffffffu;
    bits = bits < 0x477fe000u ? bits : 0x477fe000u; // 65504
    // Numbers below the smallest normal half (2^-14) are rounded by an addition that lines their bits up with those of 0.5.
    float small;
    memcpy(&small, &bits, sizeof small);
    small += 0.5f;
    uint32_t subnormal;
    memcpy(&subnormal, &small, sizeof subnormal);
    const uint32_t normal = (bits - 0x38000000u + 0xfffu + (bits >> 13 & 1u)) >> 13; // to nearest, ties to even
    return (uint16_t)(sign | (bits < 0x38800000u ? subnormal - 0x3f000000u : normal));
}

static inline float qcnn_half_value(uint16_t half)
{
    // As a float's exponent and mantissa the bits stand for the value times 2^-112, subnormal halves included.
    const uint32_t magnitude = (uint32_t)(half & 0x7fffu) << 13, sign = (uint32_t)(half & 0x8000u) << 16;
    float x;
    memcpy(&x, &magnitude, sizeof x);
    x *= 0x1p112f;
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    bits |= sign;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static inline void qcnn_halves_of(const float *x, uint16_t *halves, size_t n)
{
    for (size_t i = 0; i < n; i++)
        halves[i] = qcnn_half_of(x[i]);
}

static inline void qcnn_half_values(const uint16_t *halves, float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        x[i] = qcnn_half_value(halves[i]);
}

#endif
