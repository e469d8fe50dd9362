// SPDX-License-Identifier: Apache-2.0
// From floats to integers and back, and dense products in bytes, in portable C: what every other tier gives too, bit for bit.

#include <string.h>

#include "kernels/kernels.h"

// ---- to integers ----------------------------------------------------------------------------------------------------

void qcnn_range_c(const float *x, size_t n, float *low, float *high)
{
    for (size_t j = 0; j < n; j++) {
        *low = x[j] < *low ? x[j] : *low;
        *high = x[j] > *high ? x[j] : *high;
    }
}

// `v` between two whole numbers below 2^22, rounded to the nearest, even in the middle: there a float's last bit is worth 1.
static inline int32_t round_within(float v, float low, float high)
{
    v = v > low ? v : low; // NaN: low
    v = v < high ? v : high;
    const float shifted = v + 0x1.8p23F;
    int32_t bits;
    memcpy(&bits, &shifted, sizeof bits);
    return bits - 0x4B400000;
}

void qcnn_quantize_quads_c(size_t n, const float *x, size_t channel_stride, int n_channels, float scale, int zero, int limit,
                           uint8_t *quads)
{
    const float low = (float)-zero, high = (float)(limit - zero);
    for (int i = 0; i < 4; i++, x += channel_stride)
        for (size_t j = 0; j < n; j++)
            quads[4 * j + (size_t)i] = (uint8_t)(i < n_channels ? round_within(x[j] * scale, low, high) + zero : zero);
}

void qcnn_quantize_bytes_c(size_t n, const float *x, float scale, int zero, int limit, uint8_t *bytes)
{
    const float low = (float)-zero, high = (float)(limit - zero);
    for (size_t j = 0; j < n; j++)
        bytes[j] = (uint8_t)(round_within(x[j] * scale, low, high) + zero);
}

void qcnn_quantize_words_c(size_t n, const float *x, float scale, int limit, int16_t *words)
{
    for (size_t j = 0; j < n; j++)
        words[j] = (int16_t)round_within(x[j] * scale, (float)-limit, (float)limit);
}

// ---- to floats ------------------------------------------------------------------------------------------------------

static inline float scaled(int32_t sum, float scale, float start, float low)
{
    const float v = (float)sum * scale + start;
    return v > low ? v : low;
}

void qcnn_dequantize_c(size_t n, const int32_t *sums, float scale, float start, float low, float *y)
{
    for (size_t j = 0; j < n; j++)
        y[j] = scaled(sums[j], scale, start, low);
}

void qcnn_dequantize_turned_c(size_t n_positions, size_t n_outputs, const int32_t *sums, size_t sum_stride, float scale,
                              const float *starts, float low, float *y, size_t y_stride)
{
    for (size_t o = 0; o < n_outputs; o++)
        for (size_t p = 0; p < n_positions; p++)
            y[o * y_stride + p] = scaled(sums[p * sum_stride + o], scale, starts[o], low);
}

// ---- products -------------------------------------------------------------------------------------------------------

enum { DENSE_ROWS_C = 4, DENSE_COLUMNS_C = 16 };

static inline void sum_tile_c(size_t n_rows, size_t n_steps, const int8_t *weights, const uint8_t *x, const uint32_t *offsets,
                              int32_t sums[DENSE_ROWS_C][DENSE_COLUMNS_C])
{
    for (size_t s = 0; s < n_steps; s++, weights += DENSE_ROWS_C * 4) {
        const uint8_t *quads = x + offsets[s];
        for (size_t r = 0; r < n_rows; r++) {
            const int8_t *w = weights + 4 * r;
            for (size_t j = 0; j < DENSE_COLUMNS_C; j++)
                sums[r][j] += w[0] * quads[4 * j] + w[1] * quads[4 * j + 1] + w[2] * quads[4 * j + 2] + w[3] * quads[4 * j + 3];
        }
    }
}

void qcnn_dense_bytes_4x16_c(size_t n_rows, size_t n_columns, size_t n_steps, const int8_t *weights, const uint8_t *x,
                             const uint32_t *offsets, const float *scales, const float *starts, float low, float *y, size_t y_stride)
{
    int32_t sums[DENSE_ROWS_C][DENSE_COLUMNS_C] = { 0 };
    sum_tile_c(n_rows, n_steps, weights, x, offsets, sums);
    for (size_t r = 0; r < n_rows; r++)
        qcnn_dequantize_c(n_columns, sums[r], scales[r], starts[r], low, y + r * y_stride);
}

void qcnn_dense_quads_4x16_c(size_t n_rows, size_t n_columns, size_t n_steps, const int8_t *weights, const uint8_t *x,
                             const uint32_t *offsets, const float *scales, const float *starts, int limit, uint8_t *y, size_t quad_stride)
{
    (void)quad_stride; // a tile has one quad
    int32_t sums[DENSE_ROWS_C][DENSE_COLUMNS_C] = { 0 };
    sum_tile_c(n_rows, n_steps, weights, x, offsets, sums);
    for (size_t r = 0; r < DENSE_ROWS_C; r++)
        for (size_t j = 0; j < n_columns; j++)
            y[4 * j + r] = (uint8_t)(r < n_rows ? round_within((float)sums[r][j] * scales[r] + starts[r], 0, (float)limit) : 0);
}
