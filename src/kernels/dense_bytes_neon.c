// SPDX-License-Identifier: Apache-2.0
// From floats to integers and back, and dense products in bytes, for any 64-bit ARM processor (dense_bytes_neondot.c has the
// products for those with dot-product instructions).

#include <arm_neon.h>
#include <string.h>

#include "kernels/kernels.h"

// ---- to integers ----------------------------------------------------------------------------------------------------

void qcnn_range_neon(const float *x, size_t n, float *low, float *high)
{
    size_t j = 0;
    if (n >= 4) {
        float32x4_t lows = vdupq_n_f32(*low), highs = vdupq_n_f32(*high);
        for (; j + 4 <= n; j += 4) {
            const float32x4_t v = vld1q_f32(x + j);
            lows = vminnmq_f32(lows, v); // of a number and a NaN: the number
            highs = vmaxnmq_f32(highs, v);
        }
        *low = vminnmvq_f32(lows);
        *high = vmaxnmvq_f32(highs);
    }
    qcnn_range_c(x + j, n - j, low, high);
}

// Four numbers times scale, held to low..high (NaN: low), rounded to the nearest even.
static inline int32x4_t round_held(const float *x, float scale, float low, float high)
{
    const float32x4_t v = vmaxnmq_f32(vmulq_n_f32(vld1q_f32(x), scale), vdupq_n_f32(low));
    return vcvtnq_s32_f32(vminnmq_f32(v, vdupq_n_f32(high)));
}

void qcnn_quantize_quads_neon(size_t n, const float *x, size_t channel_stride, int n_channels, float scale, int zero, int limit,
                              uint8_t *quads)
{
    const float low = (float)-zero, high = (float)(limit - zero);
    size_t j = 0;
    for (; j + 4 <= n; j += 4) {
        uint32x4_t pixels = vdupq_n_u32((uint32_t)zero * 0x01010101u);
        const int32x4_t zeros = vdupq_n_s32(zero);
#define CHANNEL(i)                                                                                                                         \
    if ((i) < n_channels) {                                                                                                                \
        const int32x4_t bytes = vaddq_s32(round_held(x + (size_t)(i)*channel_stride + j, scale, low, high), zeros);                        \
        pixels = vbslq_u32(vdupq_n_u32(0xFFu << 8 * (i)), vshlq_n_u32(vreinterpretq_u32_s32(bytes), 8 * (i)), pixels);                     \
    }
        CHANNEL(0)
        CHANNEL(1)
        CHANNEL(2)
        CHANNEL(3)
#undef CHANNEL
        vst1q_u8(quads + 4 * j, vreinterpretq_u8_u32(pixels));
    }
    qcnn_quantize_quads_c(n - j, x + j, channel_stride, n_channels, scale, zero, limit, quads + 4 * j);
}

void qcnn_quantize_bytes_neon(size_t n, const float *x, float scale, int zero, int limit, uint8_t *bytes)
{
    const float low = (float)-zero, high = (float)(limit - zero);
    const int16x8_t zeros = vdupq_n_s16((int16_t)zero);
    size_t j = 0;
    for (; j + 8 <= n; j += 8) {
        const int16x8_t words = vmovn_high_s32(vmovn_s32(round_held(x + j, scale, low, high)), round_held(x + j + 4, scale, low, high));
        vst1_u8(bytes + j, vmovn_u16(vreinterpretq_u16_s16(vaddq_s16(words, zeros))));
    }
    qcnn_quantize_bytes_c(n - j, x + j, scale, zero, limit, bytes + j);
}

void qcnn_quantize_words_neon(size_t n, const float *x, float scale, int limit, int16_t *words)
{
    size_t j = 0;
    for (; j + 4 <= n; j += 4)
        vst1_s16(words + j, vmovn_s32(round_held(x + j, scale, (float)-limit, (float)limit)));
    qcnn_quantize_words_c(n - j, x + j, scale, limit, words + j);
}

// ---- to floats ------------------------------------------------------------------------------------------------------

static inline float32x4_t to_floats(int32x4_t sums, float scale, float start, float low)
{
    const float32x4_t v = vaddq_f32(vmulq_n_f32(vcvtq_f32_s32(sums), scale), vdupq_n_f32(start)); // two roundings, as in C
    const float32x4_t bound = vdupq_n_f32(low);
    return vbslq_f32(vcgtq_f32(v, bound), v, bound);
}

void qcnn_dequantize_neon(size_t n, const int32_t *sums, float scale, float start, float low, float *y)
{
    size_t j = 0;
    for (; j + 4 <= n; j += 4)
        vst1q_f32(y + j, to_floats(vld1q_s32(sums + j), scale, start, low));
    qcnn_dequantize_c(n - j, sums + j, scale, start, low, y + j);
}

// ---- products: 4 rows x 16 columns, eight at a time -----------------------------------------------------------------

enum { DENSE_ROWS = 4, DENSE_COLUMNS = 8 };

static inline int8x16_t quad_of(const int8_t *weights)
{
    int32_t quad;
    memcpy(&quad, weights, 4);
    return vreinterpretq_s8_s32(vdupq_n_s32(quad));
}

// Sums of eight columns. Bytes to 127 are signed bytes. A product is below 2^14: two of them fit 16 bits, so steps go in pairs; then
// they are widened.
static inline void sum_eight_columns(size_t n_steps, const int8_t *weights, const uint8_t *x, const uint32_t *offsets,
                                     int32x4_t sums[DENSE_ROWS][2])
{
    int32x4_t halves[DENSE_ROWS][4]; // two columns each, each in two halves
    for (int r = 0; r < DENSE_ROWS; r++)
        for (int v = 0; v < 4; v++)
            halves[r][v] = vdupq_n_s32(0);
    size_t s = 0;
    for (; s + 2 <= n_steps; s += 2, weights += 2 * DENSE_ROWS * 4) {
        const int8_t *first = (const int8_t *)x + offsets[s], *second = (const int8_t *)x + offsets[s + 1];
        const int8x16_t a[2] = { vld1q_s8(first), vld1q_s8(first + 16) }, b[2] = { vld1q_s8(second), vld1q_s8(second + 16) };
#pragma GCC unroll 4
        for (int r = 0; r < DENSE_ROWS; r++) {
            const int8x16_t u = quad_of(weights + 4 * r), w = quad_of(weights + 4 * (DENSE_ROWS + r));
#pragma GCC unroll 2
            for (int v = 0; v < 2; v++) {
                const int16x8_t left = vmlal_s8(vmull_s8(vget_low_s8(a[v]), vget_low_s8(u)), vget_low_s8(b[v]), vget_low_s8(w));
                halves[r][2 * v] = vpadalq_s16(halves[r][2 * v], left);
                halves[r][2 * v + 1] = vpadalq_s16(halves[r][2 * v + 1], vmlal_high_s8(vmull_high_s8(a[v], u), b[v], w));
            }
        }
    }
    if (s < n_steps)
        for (int v = 0; v < 2; v++) {
            const int8x16_t a = vld1q_s8((const int8_t *)x + offsets[s] + 16 * v);
            for (int r = 0; r < DENSE_ROWS; r++) {
                const int8x16_t w = quad_of(weights + 4 * r);
                halves[r][2 * v] = vpadalq_s16(halves[r][2 * v], vmull_s8(vget_low_s8(a), vget_low_s8(w)));
                halves[r][2 * v + 1] = vpadalq_s16(halves[r][2 * v + 1], vmull_high_s8(a, w));
            }
        }
    for (int r = 0; r < DENSE_ROWS; r++)
        for (int v = 0; v < 2; v++)
            sums[r][v] = vpaddq_s32(halves[r][2 * v], halves[r][2 * v + 1]);
}

void qcnn_dense_bytes_4x16_neon(size_t n_rows, size_t n_columns, size_t n_steps, const int8_t *weights, const uint8_t *x,
                                const uint32_t *offsets, const float *scales, const float *starts, float low, float *y, size_t y_stride)
{
    for (size_t j = 0; j < n_columns; j += DENSE_COLUMNS, y += DENSE_COLUMNS) {
        const size_t n = n_columns - j < DENSE_COLUMNS ? n_columns - j : DENSE_COLUMNS;
        int32x4_t sums[DENSE_ROWS][2];
        sum_eight_columns(n_steps, weights, x + 4 * j, offsets, sums);
        for (size_t r = 0; r < n_rows; r++) {
            float row[DENSE_COLUMNS];
            for (int v = 0; v < 2; v++)
                vst1q_f32(row + 4 * v, to_floats(sums[r][v], scales[r], starts[r], low));
            memcpy(y + r * y_stride, row, n * sizeof *row);
        }
    }
}

void qcnn_dense_quads_4x16_neon(size_t n_rows, size_t n_columns, size_t n_steps, const int8_t *weights, const uint8_t *x,
                                const uint32_t *offsets, const float *scales, const float *starts, int limit, uint8_t *y,
                                size_t quad_stride)
{
    (void)quad_stride; // a tile has one quad
    for (size_t j = 0; j < n_columns; j += DENSE_COLUMNS, y += 4 * DENSE_COLUMNS) {
        int32x4_t sums[DENSE_ROWS][2];
        int32_t rows[DENSE_ROWS][DENSE_COLUMNS];
        sum_eight_columns(n_steps, weights, x + 4 * j, offsets, sums);
        for (int r = 0; r < DENSE_ROWS; r++)
            for (int v = 0; v < 2; v++)
                vst1q_s32(rows[r] + 4 * v, sums[r][v]);
        qcnn_quads_of_sums_neon(n_rows, n_columns - j < DENSE_COLUMNS ? n_columns - j : DENSE_COLUMNS, rows[0], DENSE_COLUMNS, scales,
                                starts, limit, y);
    }
}
