// SPDX-License-Identifier: Apache-2.0
// Scales of inputs in bytes and of byte tables.

#include "engine/table_scale.h"

#include <math.h>

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

qcnn_table_scale qcnn_table_scale_of(const int32_t *peaks, size_t n, const float *scales, size_t n_scales, int n_quads, float input_scale,
                                     int16_t *factors)
{
    // The largest accumulator, 4 quads of products of 255 and 127, shifted into 16 bits; twice that around a zero point.
    int shift = 0;
    while (((int64_t)n_quads * 4 * 255 * 127 * 2) >> shift > INT16_MAX)
        shift++;
    const float one = 32768.0F * (float)(1 << shift); // a factor of `one` keeps an accumulator as it is
    float largest = 0, largest_scale = 0;
    for (size_t i = 0; i < n; i++) {
        const float scale = scales[i % n_scales], size = scale * (float)peaks[i];
        largest = size > largest ? size : largest;
        largest_scale = scale > largest_scale ? scale : largest_scale;
    }
    float unit = largest / 127; // in accumulators of scale 1; factors stay below 2^15
    if (unit < largest_scale * one / 32767)
        unit = largest_scale * one / 32767;
    for (size_t i = 0; i < n; i++)
        factors[i] = (int16_t)(scales[i % n_scales] / unit * one + 0.5F);
    return (qcnn_table_scale){ shift, unit * input_scale };
}
