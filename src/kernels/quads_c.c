// SPDX-License-Identifier: Apache-2.0
// Byte planes in portable C: what layers that keep their values in bytes do with quads. Every other tier gives the same bits.

#include "kernels/kernels.h"

// `v` rounded to the nearest whole number, even in the middle, and held to 0..limit: below 2^22, where the last bit of a float's
// sum with 1.5 * 2^23 is worth 1. NaN gives 0.
static inline uint8_t byte_of(float v, float limit)
{
    v = v > 0 ? v : 0;
    v = v < limit ? v : limit;
    const float shifted = v + 0x1.8p23F;
    uint32_t bits;
    memcpy(&bits, &shifted, sizeof bits);
    return (uint8_t)bits;
}

// ---- sums to quads --------------------------------------------------------------------------------------------------

void qcnn_requantize_turned_c(size_t n_positions, size_t n_outputs, const int32_t *sums, size_t sum_stride, float scale,
                              const float *starts, int limit, uint8_t *y, size_t quad_stride)
{
    for (size_t o = 0; o < (n_outputs + 3) / 4 * 4; o++)
        for (size_t p = 0; p < n_positions; p++)
            y[o / 4 * quad_stride + 4 * p + o % 4] =
                o < n_outputs ? byte_of((float)sums[p * sum_stride + o] * scale + starts[o], (float)limit) : 0;
}

// ---- quads to quads -------------------------------------------------------------------------------------------------

void qcnn_max_quads_c(uint8_t *y, const uint8_t *x, size_t row_stride, size_t n_rows, size_t n, size_t n_taps, size_t stride)
{
    for (size_t j = 0; j < n; j++, x += 4 * stride, y += 4)
        for (size_t i = 0; i < 4; i++) {
            uint8_t most = 0;
            for (size_t r = 0; r < n_rows; r++)
                for (size_t t = 0; t < n_taps; t++)
                    most = x[r * row_stride + 4 * t + i] > most ? x[r * row_stride + 4 * t + i] : most;
            y[i] = most;
        }
}

// ---- floats to quads ------------------------------------------------------------------------------------------------

void qcnn_lrn_quads_c(uint8_t *y, size_t quad_stride, const float *x, size_t x_stride, size_t n_channels, size_t n, int size, float scale,
                      float bias, float ratio, int limit)
{
    const size_t below = ((size_t)size - 1) / 2, above = (size_t)size / 2;
    for (size_t c = 0; c < (n_channels + 3) / 4 * 4; c++) {
        const size_t first = c > below ? c - below : 0, end = c + above < n_channels ? c + above + 1 : n_channels;
        for (size_t p = 0; p < n; p++) {
            float sum = 0;
            for (size_t k = first; k < end; k++)
                sum += x[k * x_stride + p] * x[k * x_stride + p];
            const float factor = qcnn_power_075(bias + scale * sum) * ratio;
            y[c / 4 * quad_stride + 4 * p + c % 4] = c < n_channels ? byte_of(x[c * x_stride + p] * factor, (float)limit) : 0;
        }
    }
}

// ---- quads to floats ------------------------------------------------------------------------------------------------

void qcnn_dequantize_quads_c(size_t n, const uint8_t *quads, int n_channels, float scale, float *y, size_t channel_stride)
{
    for (size_t i = 0; i < (size_t)n_channels; i++)
        for (size_t j = 0; j < n; j++)
            y[i * channel_stride + j] = (float)quads[4 * j + i] * scale;
}
