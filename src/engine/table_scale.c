// SPDX-License-Identifier: Apache-2.0
// Scales of inputs in bytes and of byte tables.

#include "engine/table_scale.h"

#include <math.h>
#include <string.h>

qcnn_byte_scale qcnn_byte_scale_of(const qcnn_kernels *kernels, const float *x, size_t n, int limit)
{
    float low = 0, high = 0;
    kernels->range(x, n, &low, &high);
    const float range = (high - low) / (float)limit;
    qcnn_byte_scale bytes = { .scale = 1, .inverse = 1, .limit = limit };
    if (range > 0 && range < INFINITY && 1 / range < INFINITY) {
        bytes.scale = range;
        bytes.inverse = 1 / range;
        const float zero = -low / range + 0.5F;
        bytes.zero = zero < (float)limit ? (int)zero : limit;
    }
    return bytes;
}

float qcnn_low_bound(const qcnn_activation *activation)
{
    return activation->function == QCNN_RELU ? 0 : -INFINITY;
}

bool qcnn_activation_left(const qcnn_activation *activation)
{
    return activation->function != QCNN_RELU && activation->function != QCNN_IDENTITY;
}

// Bits that an accumulator loses so that the largest keeps 14: that many, because factors then have eight or nine.
static int shift_of(int32_t peak)
{
    const int bits = peak > 0 ? 32 - __builtin_clz((unsigned)peak) : 0;
    return bits > 14 ? bits - 14 : 0;
}

// The power of two at or below v, its exponent: of a normal number above zero; large where v is not finite.
static int exponent_of(float v)
{
    int32_t bits;
    memcpy(&bits, &v, sizeof bits);
    return (bits >> 23) - 127;
}

float qcnn_table_unit(const int32_t *peaks, size_t n, const float *scales, size_t n_scales, float input_scale, uint64_t n_terms,
                      uint8_t *shifts, int16_t *factors, uint8_t *weights)
{
    float largest = 0, coarsest = 0; // of the table with the largest peak: its size and its unit, in accumulators of scale 1
    for (size_t i = 0, k = 0; i < n; i++, k = k + 1 < n_scales ? k + 1 : 0) {
        shifts[i] = (uint8_t)shift_of(peaks[i]);
        const float scale = scales[k], size = scale * (float)peaks[i], least = scale * (float)(1 << shifts[i]) * (32768.0F / 32767);
        largest = size > largest ? size : largest;
        coarsest = least > coarsest ? least : coarsest; // a factor stays below 2^15
    }
    coarsest = largest / 127 > coarsest ? largest / 127 : coarsest;
    const float inverse = 1 / coarsest;
    int most = 0, finest = 0; // halvings of it
    while (most < QCNN_MAX_WEIGHT && n_terms << (most + 1) <= INT32_MAX / 255)
        most++;
    for (size_t i = 0, k = 0; i < n; i++, k = k + 1 < n_scales ? k + 1 : 0) {
        // As many halvings as let the peak fit, and the factor.
        const float relative = scales[k] * inverse, size = relative * (float)peaks[i];
        const float factor = relative * 32768 * (float)(1 << shifts[i]);
        const int by_size = exponent_of(127 / size), by_factor = exponent_of(32767 / factor);
        int halvings = by_size < by_factor ? by_size : by_factor;
        halvings = peaks[i] <= 0 || halvings < 0 ? 0 : halvings < most ? halvings : most;
        const float rounded = factor * (float)(1 << halvings) + 0.5F;
        factors[i] = rounded < 0x1p15F ? (int16_t)rounded : 0; // scales of denormal codewords have no inverse
        weights[i] = (uint8_t)halvings;
        finest = halvings > finest ? halvings : finest;
    }
    for (size_t i = 0; i < n; i++)
        weights[i] = (uint8_t)(finest - weights[i]);
    return coarsest * input_scale / (float)(1 << finest);
}

void qcnn_order_by_weight(const uint8_t *weights, size_t n, uint32_t *order)
{
    size_t places[QCNN_MAX_WEIGHT + 2] = { 0 }; // where those of a weight begin
    for (size_t i = 0; i < n; i++)
        places[QCNN_MAX_WEIGHT - weights[i] + 1]++;
    for (int w = 0; w <= QCNN_MAX_WEIGHT; w++)
        places[w + 1] += places[w];
    for (size_t i = 0; i < n; i++)
        order[places[QCNN_MAX_WEIGHT - weights[i]]++] = (uint32_t)i;
}
